"""Build the offline world once: tokenizer, tiny CLAP, triplets, tiny LLaMA; later calls find it and return.

Everything follows from ``seed``. Neither model ever sees a held-out scene.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from mats_ray import __version__
from mats_ray.config import RunConfig
from mats_ray.config.model import ToyConfig
from mats_ray.data.embedded import inspect
from mats_ray.data.embedding.on_ray import embed
from mats_ray.data.memory import build_memory, check_memory
from mats_ray.data.triplets import triplet_table
from mats_ray.errors import ConfigError, DataError, ModelError
from mats_ray.models.build import build_clap
from mats_ray.storage import exists, open_input, parquet_files
from mats_ray.tasks import prompt_halves
from mats_ray.toy.clap import train_clap
from mats_ray.toy.grammar import captions, kind_of, triplets
from mats_ray.toy.llm import pretrain_llm
from mats_ray.toy.scenes import KIND_SHARES, Scene, SceneClip, SceneKind, scene_clips, split_scenes
from mats_ray.toy.tokenizer import train_tokenizer
from mats_ray.types import CLAPIdentity, Triplet

MARKER = "WORLD.json"
CLAP_STREAM, TEXT_STREAM, TEST_STREAM, SUPERVISED_STREAM = 11, 12, 13, 14
"""Added to the seed: clips of different uses are different clips."""
CLAP_SHARES: dict[SceneKind, float] = {"alone": 0.3, "then": 0.3, "together": 0.4}
"""Sounds at once are the hardest to tell."""


@dataclass(frozen=True, slots=True)
class Split:
    """Scenes either model may see, and scenes neither ever sees."""

    train: tuple[Scene, ...]
    held_out: tuple[Scene, ...]

    def clips(self, stream: int, *, count: int, seed: int) -> list[SceneClip]:
        """Draw clips of one use; only the test stream draws from the held-out scenes."""
        scenes = self.held_out if stream == TEST_STREAM else self.train
        shares = CLAP_SHARES if stream == CLAP_STREAM else KIND_SHARES
        return scene_clips(scenes, count, seed * 100 + stream, kind_shares=shares)


def split_of(config: RunConfig) -> Split:
    """Return the split that follows from the seed."""
    return Split(*split_scenes(config.seed))


def ensure_world(config: RunConfig) -> None:
    """Build the toy world unless it is there; nothing happens for a configuration without one.

    Raises:
        ConfigError: The output folder is not local.
    """
    if config.toy is None:
        return
    if "://" in config.output_dir:
        raise ConfigError(f"a toy world is built in a local folder, output_dir is {config.output_dir}")
    folder = Path(config.toy_dir).expanduser()
    marker = folder / MARKER
    wanted = _fingerprint(config, config.toy)
    if marker.is_file() and json.loads(marker.read_text("utf-8")).get("fingerprint") == wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)  # half a world must not pass for the one before
    _build(config, config.toy, folder)
    marker.write_text(json.dumps({"fingerprint": wanted, "mats_ray": __version__}) + "\n", "utf-8")


def ensure_training_data(config: RunConfig) -> None:
    """Build whatever a toy configuration lacks before it can train; needs Ray.

    Raises:
        MATSError: A stage failed.
    """
    if config.toy is None:
        return
    ensure_world(config)
    clap = build_clap(config.clap).identity
    if not _is_embedded(config, clap):
        embed(config)
    if config.santa.enabled and not _has_memory(config, clap):
        build_memory(config)


def _is_embedded(config: RunConfig, clap: CLAPIdentity) -> bool:
    """Whether all triplets are there, embedded with this CLAP; a kill or another seed leaves less."""
    if config.data.embedded is not None:
        return exists(config.embedded_path)  # brought along, not ours to judge
    try:
        embedded = inspect(config.embedded_path, expected=clap)
    except DataError:
        return False
    files = parquet_files(config.triplets_path)
    return embedded.num_rows == sum(pq.read_metadata(open_input(one.path)).num_rows for one in files)


def _has_memory(config: RunConfig, clap: CLAPIdentity) -> bool:
    if config.memory.path is not None or not exists(config.memory_path):
        return exists(config.memory_path)
    try:
        check_memory(config, clap)
    except (DataError, ModelError):
        return False
    return True


def _build(config: RunConfig, toy: ToyConfig, folder: Path) -> None:
    split = split_of(config)
    described = [(clip, all_triplets(clip, prefix)) for clip, prefix in _described(config, split)]
    lessons = [lesson for _, lesson in described]
    tokenizer = train_tokenizer(
        text
        for row in itertools.chain(*lessons)
        for text in (row.text, *prompt_halves(row.instruction), row.answer)
    )
    num_pairs = toy.clap_steps * toy.clap_batch_size
    clips = split.clips(CLAP_STREAM, count=num_pairs, seed=config.seed)
    train_clap(folder / "clap", clips, tokenizer, toy, dim=config.model.clap.dim, seed=config.seed)
    pretrain_llm(folder / "llm", lessons, tokenizer, toy, seed=config.seed)
    target = Path(config.triplets_path).expanduser()
    target.mkdir(parents=True, exist_ok=True)
    rows = [row for clip, lesson in described for row in _taught(lesson, clip)]
    pq.write_table(triplet_table(rows), target / "toy.parquet")


def text_triplets(config: RunConfig, split: Split) -> list[Triplet]:
    """Write the text world MATS is trained on: one varied description per drawn training scene."""
    return [row for clip, prefix in _described(config, split) for row in training_triplets(clip, prefix)]


def all_triplets(clip: SceneClip, id_prefix: str) -> list[Triplet]:
    """Describe a training clip once, in one of many ways, caption it and ask all about it."""
    text = captions(clip.scene, clip.rng(1), 1)[0]
    return triplets(clip.scene, text, clip.rng(2), id_prefix, "train", num_presence=4)


def training_triplets(clip: SceneClip, id_prefix: str) -> list[Triplet]:
    """The caption and one question of a training clip, every kind of question equally often.

    A caption says more about its sounds than any answer, and what the language model can answer about a text
    it mostly can about an embedding in its place.
    """
    return _taught(all_triplets(clip, id_prefix), clip)


def _taught(lesson: list[Triplet], clip: SceneClip) -> list[Triplet]:
    caption, *questions = lesson
    by_kind = {kind: list(rows) for kind, rows in itertools.groupby(questions, lambda row: kind_of(row.id))}
    rng = clip.rng(3)
    asked = list(by_kind.values())[int(rng.integers(len(by_kind)))]
    return [caption, asked[int(rng.integers(len(asked)))]]


def _described(config: RunConfig, split: Split) -> Iterator[tuple[SceneClip, str]]:
    assert config.toy is not None
    clips = split.clips(TEXT_STREAM, count=config.toy.num_texts, seed=config.seed)
    return ((clip, f"toy/{index}") for index, clip in enumerate(clips))


def _fingerprint(config: RunConfig, toy: ToyConfig) -> str:
    tree = [toy.model_dump(mode="json"), config.seed, config.model.clap.dim, config.data.triplets]
    return hashlib.sha256(json.dumps(tree).encode()).hexdigest()[:16]
