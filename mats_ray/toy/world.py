"""Build the offline world once: tokenizer, tiny CLAP, triplets, tiny LLaMA; later calls find it and return.

Only parts that the configuration does not name are built, and only below the world's own folder. Everything
follows from ``seed``. Neither model ever sees a scene of validation or a novel one.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from mats_ray.config import RunConfig
from mats_ray.config.toy import ToyConfig
from mats_ray.data.bridge_state import build_state, check_state
from mats_ray.data.embedding.on_ray import embed
from mats_ray.data.triplets import triplet_table
from mats_ray.errors import ConfigError, DataError, ModelError
from mats_ray.models.build import build_clap
from mats_ray.storage import exists
from mats_ray.tasks import prompt_halves
from mats_ray.toy.clap import train_clap
from mats_ray.toy.fitting import side_by_side
from mats_ray.toy.grammar import captions, kind_of, triplets
from mats_ray.toy.llm import pretrain_llm
from mats_ray.toy.scenes import KIND_SHARES, Scene, SceneClip, SceneKind, scene_clips, split_scenes
from mats_ray.toy.tokenizer import train_tokenizer
from mats_ray.types import CLAPIdentity, Triplet
from mats_ray.version import __version__

MARKER = "WORLD.json"
Part = Literal["clap", "llm", "triplets"]
PARTS: tuple[Part, ...] = ("clap", "llm", "triplets")
"""Folders of the world."""
CLAP_STREAM, TEXT_STREAM, NOVEL_STREAM, SUPERVISED_STREAM, READ_STREAM = 11, 12, 13, 14, 15
VALIDATION_NOVEL_STREAM, VALIDATION_READ_STREAM = 16, 17
"""Added to the seed: clips of different uses are different clips."""
CLAP_SHARES: dict[SceneKind, float] = {"alone": 0.3, "then": 0.3, "together": 0.4}
"""Simultaneous sounds are the hardest to tell apart."""


@dataclass(frozen=True, slots=True)
class Split:
    """Scenes that all is trained on, and two sets that nothing is: one to choose settings by, one to test."""

    train: tuple[Scene, ...]
    validation: tuple[Scene, ...]
    novel: tuple[Scene, ...]

    def clips(self, stream: int, *, count: int, seed: int) -> list[SceneClip]:
        """Draw clips of one use; only two uses draw from the scenes that are withheld."""
        withheld = {NOVEL_STREAM: self.novel, VALIDATION_NOVEL_STREAM: self.validation}
        shares = CLAP_SHARES if stream == CLAP_STREAM else KIND_SHARES
        return scene_clips(withheld.get(stream, self.train), count, seed * 100 + stream, kind_shares=shares)


def split_of(config: RunConfig) -> Split:
    """Return the split that follows from the seed."""
    return Split(*split_scenes(config.seed))


def ensure_world(config: RunConfig, *, parts: Sequence[Part] = PARTS) -> None:
    """Build the parts of the toy world that no key names, unless they are there.

    Does nothing for a configuration without a toy section.

    Args:
        config: The parts it names are not built.
        parts: The parts to build.

    Raises:
        ConfigError: The output folder is not local.
        DataError: The configuration names triplets, and there are none.
    """
    if config.toy is None:
        return
    if "triplets" in parts:
        _check_exist(("data.triplets", config.data.triplets))
    missing: list[Part] = [part for part in parts if part not in _named_parts(config)]
    if not missing:
        return
    if "://" in config.output_dir:
        raise ConfigError(f"a toy world is built in a local folder, output_dir is {config.output_dir}")
    folder = Path(config.toy_dir).expanduser()
    marker = folder / MARKER
    wanted = _fingerprint(config, config.toy)
    built = _built_parts(marker, wanted)
    missing = [part for part in missing if part not in built]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not built:
        marker.unlink(missing_ok=True)  # an incomplete world must not be mistaken for the old one
    for part in _build(config, config.toy, folder, missing):  # what is finished outlives an interruption
        built.append(part)
        tree = {"fingerprint": wanted, "parts": sorted(built), "mats_ray": __version__}
        marker.write_text(json.dumps(tree) + "\n", "utf-8")


def ensure_texts(config: RunConfig) -> None:
    """Build the triplets and CLAP that ``mats embed`` needs, unless they are named or there.

    Raises:
        MATSError: See ``ensure_world``.
    """
    ensure_world(config, parts=("clap", "triplets"))


def ensure_training_data(config: RunConfig) -> None:
    """Build what training needs and a toy configuration does not name, unless it is there; needs Ray.

    Raises:
        DataError: Triplets, embedded triplets or the memory are named, and not there.
        MATSError: A stage failed.
    """
    if config.toy is None:
        return
    memory = config.memory.path if config.bridge != "none" else None
    _check_exist(("data.embedded", config.data.embedded), ("memory.path", memory))
    if config.data.embedded is None:
        ensure_world(config)
        embed(config)  # does nothing where these triplets are embedded with this CLAP
    else:
        ensure_world(config, parts=("clap", "llm"))
    if config.bridge == "none" or memory is not None:
        return
    if not _has_memory(config, build_clap(config.clap).identity):
        build_state(config)


def _check_exist(*named: tuple[str, str | None]) -> None:
    for key, path in named:
        if path is not None and not exists(path):
            raise DataError(
                f"{key} names {path}, and nothing is there; a toy configuration builds only what no key names"
            )


def _named_parts(config: RunConfig) -> set[Part]:
    data, model = config.data, config.model
    named: dict[Part, object] = {
        "clap": model.clap.ref,
        "llm": model.llm.path,
        "triplets": data.triplets or data.prepare.sources,
    }
    return {part for part, value in named.items() if value}


def _built_parts(marker: Path, fingerprint: str) -> list[Part]:
    """Return which parts of a world are there."""
    tree = json.loads(marker.read_text("utf-8")) if marker.is_file() else {}
    return tree.get("parts", []) if tree.get("fingerprint") == fingerprint else []


def _has_memory(config: RunConfig, clap: CLAPIdentity) -> bool:
    if not exists(config.memory_path):
        return False
    try:
        check_state(config, clap)
    except (DataError, ModelError):
        return False
    return True


def _build(config: RunConfig, toy: ToyConfig, folder: Path, parts: Sequence[Part]) -> Iterator[Part]:
    """Build parts; yields each when it is finished."""
    split = split_of(config)
    clips_with_triplets = [
        (clip, all_triplets(clip, prefix)) for clip, prefix in _clips_with_prefix(config, split)
    ]
    dialogues = [rows for _, rows in clips_with_triplets]
    tokenizer = train_tokenizer(
        text
        for row in itertools.chain(*dialogues)
        for text in (row.text, *prompt_halves(row.instruction), row.answer)
    )
    tokenizer_of_llm = deepcopy(
        tokenizer
    )  # a call sets padding and truncation: not for the other thread, too
    trainings: dict[Part, Callable[[], None]] = {
        "clap": lambda: train_clap(
            folder / "clap",
            split.clips(CLAP_STREAM, count=toy.clap_steps * toy.clap_batch_size, seed=config.seed),
            tokenizer,
            toy,
            dim=config.model.clap.dim,
            seed=config.seed,
        ),
        "llm": lambda: pretrain_llm(folder / "llm", dialogues, tokenizer_of_llm, toy, seed=config.seed),
    }
    chosen: dict[Part, Callable[[], None]] = {part: trainings[part] for part in trainings if part in parts}
    yield from side_by_side(chosen)
    if "triplets" in parts:
        (folder / "triplets").mkdir(exist_ok=True)
        rows = [row for clip, one in clips_with_triplets for row in _draw_question(one, clip)]
        pq.write_table(triplet_table(rows), folder / "triplets" / "toy.parquet")
        yield "triplets"


def text_triplets(config: RunConfig, split: Split) -> list[Triplet]:
    """Write the text world MATS is trained on: one varied description per drawn training scene."""
    return [
        row for clip, prefix in _clips_with_prefix(config, split) for row in training_triplets(clip, prefix)
    ]


def all_triplets(clip: SceneClip, id_prefix: str) -> list[Triplet]:
    """Describe a training clip once, in one of many ways, caption it and ask every question about it."""
    text = captions(clip.scene, clip.rng(1), 1)[0]
    return triplets(clip.scene, text, clip.rng(2), id_prefix, "train", num_presence=4)


def training_triplets(clip: SceneClip, id_prefix: str) -> list[Triplet]:
    """The caption and one question of a training clip, every kind of question equally often.

    A caption describes its sounds better than any answer, and what the language model can answer about a text
    it mostly can about an embedding in its place.
    """
    return _draw_question(all_triplets(clip, id_prefix), clip)


def _draw_question(rows: list[Triplet], clip: SceneClip) -> list[Triplet]:
    caption, *questions = rows
    by_kind = {kind: list(group) for kind, group in itertools.groupby(questions, lambda row: kind_of(row.id))}
    rng = clip.rng(3)
    of_kind = list(by_kind.values())[int(rng.integers(len(by_kind)))]
    return [caption, of_kind[int(rng.integers(len(of_kind)))]]


def _clips_with_prefix(config: RunConfig, split: Split) -> Iterator[tuple[SceneClip, str]]:
    assert config.toy is not None
    clips = split.clips(TEXT_STREAM, count=config.toy.num_texts, seed=config.seed)
    return ((clip, f"toy/{index}") for index, clip in enumerate(clips))


def _fingerprint(config: RunConfig, toy: ToyConfig) -> str:
    tree = [toy.model_dump(mode="json"), config.seed, config.model.clap.dim]
    return hashlib.sha256(json.dumps(tree).encode()).hexdigest()[:16]
