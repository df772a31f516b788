"""The effect of each deliberate difference from the paper and from upstream on the toy (docs/fidelity.md).

    mats demo --config configs/toy.yaml         # first: the world, and the model the variants are made of
    python benchmarks/fidelity.py [--tables santa answers training]

Every line changes one thing and captions and questions the demo's 200 held-out clips: the share of
captions that name all sounds, of questions answered right, and both against the first line of its table.
Differences of two or three hundredths are chance: the last Santa lines show as much from another seed alone.
The table ``training`` trains a model for each line (``fidelity_training.py``), a minute or two each.
"""

import argparse
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fidelity_training import training_lines
from torch.nn.functional import normalize

from mats_ray.config import RunConfig, load_config
from mats_ray.config.generation import PROFILES, GenerationConfig
from mats_ray.config.santa import SantaConfig
from mats_ray.data.audio import read_audio
from mats_ray.data.embedded import distinct_embeddings
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.models import mats
from mats_ray.models.bridges.bridge import NoBridge
from mats_ray.models.bridges.kmeans import kmeans
from mats_ray.models.bridges.santa import Santa
from mats_ray.models.clap import load_clap
from mats_ray.models.directory import read_info
from mats_ray.models.noise import inject_noise
from mats_ray.models.santa import SantaMemory
from mats_ray.models.splice import pad_left
from mats_ray.toy.demo.systems import BATCH_SIZE, answer_samples
from mats_ray.toy.demo.testset import TestClip, samples_of, shares_right, write_test_set

Shares = dict[str, float]
"""Value by measure: ``caption_all_sounds``, ``questions_right``."""
Line = tuple[str, Callable[[], Shares]]


class World:
    """The demo's data and model."""

    def __init__(self, config: RunConfig, clips: list[TestClip]) -> None:
        self.config, self.clips, self.samples = config, clips, samples_of(clips)
        self.audio = [read_audio(clip.path) for clip in clips]
        self.encoder = AudioEncoder.from_pretrained(config.model_dir)
        self.answerer = Answerer.from_pretrained(config.model_dir)
        self.audio_NC = self.encoder.encode(self.audio)
        raw = replace_normalize(self.encoder)
        self.raw_NC = raw.encode(self.audio)

    def texts(self, seed: int) -> torch.Tensor:
        rows = self.config.memory.num_rows
        return torch.from_numpy(
            distinct_embeddings(self.config.embedded_path, num_rows=rows, seed=seed)[0].copy()
        )

    def noised(self, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        variance = self.config.memory.noise_variance
        return inject_noise(self.texts(seed), variance=variance, generator=generator)

    def santa(self, **changes) -> SantaConfig:
        return self.own_bridge.numbers.model_copy(update=changes)

    @property
    def own_bridge(self) -> Santa:
        assert isinstance(self.answerer.bridge, Santa), "the demo's bridge is Santa"
        return self.answerer.bridge

    def bridge(self, *, santa: SantaConfig | None = None, memory: SantaMemory | None = None) -> Santa:
        """Santa with other numbers, or another memory."""
        own = self.own_bridge
        return replace(own, numbers=santa or own.numbers, memory=memory or own.memory)

    def score(self, embeddings_NC: np.ndarray | None = None, **changes) -> Shares:
        """Score an answerer with a changed bridge on the test clips."""
        answerer = replace(self.answerer, bridge=self.bridge(**changes))
        return self.score_of(answerer, embeddings_NC)

    def score_of(self, answerer: Answerer, embeddings_NC: np.ndarray | None = None) -> Shares:
        """Score another answerer, bridge and all, on the test clips."""
        moved_NC = answerer.move(self.audio_NC if embeddings_NC is None else embeddings_NC).numpy()
        return self.shares(answerer, moved_NC)

    def shares(self, answerer: Answerer, embeddings_NC: np.ndarray) -> Shares:
        """Score an answerer on embeddings as they are."""
        texts = answer_samples(answerer, embeddings_NC, self.clips, self.samples)
        return shares_right(self.samples, texts)


def replace_normalize(encoder: AudioEncoder) -> AudioEncoder:
    return AudioEncoder(encoder.clap, long_audio=encoder.long_audio, normalize=False)


def clustered(rows_NC: torch.Tensor, *, num_clusters: int = 100, start: torch.Tensor | None = None):
    return SantaMemory.of_clusters(
        rows_NC,
        kmeans(rows_NC, num_clusters=num_clusters, num_iterations=10, seed=0, initial_rows_K=start),
    )


def shuffled_as_upstream(world: World) -> SantaMemory:
    """Upstream's ``random.shuffle`` on a tensor: each swap copies a row over another."""
    rows_NC = world.texts(0)
    random.Random(0).shuffle(rows_NC)  # noqa: S311
    print(f"    random.shuffle left {len(torch.unique(rows_NC, dim=0))} distinct rows of {len(rows_NC)}")
    generator = torch.Generator().manual_seed(0)
    return clustered(inject_noise(rows_NC, variance=world.config.memory.noise_variance, generator=generator))


def santa_lines(world: World) -> list[Line]:
    """Variants of the memory and of what is done with it."""
    upstream, clean = world.santa(compat="upstream"), world.texts(0)
    noisy = world.santa(compat="upstream", neighbour_noise_variance=world.config.memory.noise_variance)
    start = torch.randperm(len(clean), generator=torch.Generator().manual_seed(0))[:100]
    memory = world.own_bridge.memory
    sizes = [len(pool) for pool in memory.nearest_clusters(torch.from_numpy(world.audio_NC))]
    empty = int((memory.offsets_K1.diff() == 0).sum())
    small = np.mean(np.array(sizes) < 32)
    paper_NC, filled_NC = (
        normalize(replace(world.answerer, bridge=world.bridge(santa=one)).move(world.audio_NC), dim=-1)
        for one in (world.santa(), upstream)
    )
    print(f"    {empty} empty clusters; of the clips {small:.3f} meet one smaller than L = 32")
    print(
        f"    filled up: cosine to ours {(paper_NC * filled_NC).sum(1).mean():.6f}, least "
        f"{(paper_NC * filled_NC).sum(1).min():.6f}; CLAP's audio is {norm(world.raw_NC):.1f} long"
    )
    return [
        ("ours", world.ask),
        ("Santa off", lambda: world.score_of(replace(world.answerer, bridge=NoBridge()))),
        ("the paper's mix of 0.3", lambda: world.score(santa=world.santa(mix=0.3))),
        ("upstream: audio as long as CLAP gives it", lambda: world.score(world.raw_NC, santa=upstream)),
        ("upstream: clusters filled up with copies", lambda: world.score(santa=upstream)),
        ("upstream: noise on the neighbours", lambda: world.score(santa=noisy, memory=clustered(clean))),
        (
            "upstream: no clusters",
            lambda: world.score(santa=upstream, memory=clustered(world.noised(), num_clusters=1)),
        ),
        ("upstream: random.shuffle", lambda: world.score(memory=shuffled_as_upstream(world))),
        (
            "upstream: K-means from random rows",
            lambda: world.score(memory=clustered(world.noised(), start=start)),
        ),
        ("other texts drawn, other noise (seed 1)", lambda: world.score(memory=clustered(world.noised(1)))),
        ("other texts drawn, other noise (seed 2)", lambda: world.score(memory=clustered(world.noised(2)))),
    ]


def norm(rows_NC: np.ndarray) -> float:
    return float(np.linalg.norm(rows_NC, axis=1).mean())


def answer_lines(world: World) -> list[Line]:
    """Variants of how words are chosen, and of CLAP's front end."""
    fast = GenerationConfig(profile="fast", max_new_tokens=world.config.generation.max_new_tokens)
    return [
        ("ours: beam 4, no bigram twice, penalty 2", world.ask),
        ("profile fast: greedy", lambda: world.score_of(replace(world.answerer, generation=fast))),
        ("transformers' penalty behind inputs_embeds", lambda: transformers_penalty(world)),
        ("upstream: a batch ends with its first row", lambda: ends_with_the_first(world)),
        ("str.capitalize() on the answer", lambda: capitalized(world)),
        ("language model in float16", lambda: in_half(world, "float16")),
        ("language model in bfloat16", lambda: in_half(world, "bfloat16")),
        ("CLAP: lowest frequency 0 Hz", lambda: world.score(encode_with(world, frequency_min=0))),
        ("CLAP: audio rounded to 16 bits", lambda: world.score(encode_with(world, quantize_int16=True))),
    ]


def transformers_penalty(world: World) -> Shares:
    """By ``generate`` and its own penalties."""
    ours = mats.MATS.answer
    mats.MATS.answer = _answer_as_transformers
    try:
        return world.score()
    finally:
        mats.MATS.answer = ours


def _answer_as_transformers(model: Any, clap_BC: Any, after_ids: Any, **decoding: Any) -> list[Any]:
    prompts = pad_left(model.prompt(clap_BC, after_ids))
    ids_BT = model.llm.generate(
        inputs_embeds=prompts.embeds_BSL,
        attention_mask=prompts.mask_BS,
        do_sample=False,
        eos_token_id=model.eos_id,
        pad_token_id=model.eos_id,
        **decoding,
    )
    return [model._cut(row) for row in ids_BT.tolist()]


def answers(world: World) -> tuple[list[str], list[str]]:
    """Captions and answers, and the same with each batch cut to the length of its first."""
    moved_NC = world.answerer.move(world.audio_NC).numpy()
    place = {clip.path.name: number for number, clip in enumerate(world.clips)}
    rows = [(place[one.audio[0]], one.question) for one in world.samples]
    generated, ends = [], []
    for first in range(0, len(rows), BATCH_SIZE):
        batch = rows[first : first + BATCH_SIZE]
        ids = world.answerer.model.generate(
            torch.from_numpy(moved_NC[[i for i, _ in batch]]),
            [world.answerer.prompts.after(text) for _, text in batch],
            max_new_tokens=world.config.generation.max_new_tokens,
            **PROFILES["paper"].as_kwargs(),
        )
        generated += [one.ids for one in ids]
        ends += [len(ids[0].ids)] * len(ids)
    texts = [world.answerer.prompts.decode(ids) for ids in generated]
    cut = [world.answerer.prompts.decode(ids[:end]) for ids, end in zip(generated, ends, strict=True)]
    return texts, cut


def ends_with_the_first(world: World) -> Shares:
    texts, cut = answers(world)
    print(f"    {np.mean([a != b for a, b in zip(texts, cut, strict=True)]):.3f} of the answers are cut")
    return shares_right(world.samples, cut)


def capitalized(world: World) -> Shares:
    texts, _ = answers(world)
    changed = [text[1:] != text.capitalize()[1:] for text in texts]
    print(f"    {np.mean(changed):.3f} of the answers lose a capital letter behind the first")
    return shares_right(world.samples, [text.capitalize() for text in texts])


def in_half(world: World, dtype: str) -> Shares:
    """Loaded as a model directory with ``model.llm.dtype`` is: mapper and LoRA stay float32."""
    info = read_info(world.config.model_dir)
    llm = info.model.llm.model_copy(update={"dtype": dtype})
    other = Answerer.from_info(replace(info, model=info.model.model_copy(update={"llm": llm})))
    return world.shares(other, world.answerer.move(world.audio_NC).numpy())


def encode_with(
    world: World, *, frequency_min: int | None = None, quantize_int16: bool | None = None
) -> np.ndarray:
    """Encode the clips by a CLAP with another front end."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(world.config.clap_ref, Path(scratch) / "clap"))
        settings = json.loads((folder / "preprocessor_config.json").read_text())
        if frequency_min is not None:
            settings["frequency_min"] = frequency_min
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
        audio_NC = AudioEncoder(load_clap(folder, quantize_int16=quantize_int16)).encode(world.audio)
    cosine_N = (audio_NC * world.audio_NC).sum(1)
    print(f"    cosine to ours {cosine_N.mean():.6f}, least {cosine_N.min():.6f}")
    return audio_NC


def table(title: str, lines: list[Line]) -> None:
    print(f"== {title}", flush=True)
    base: Shares | None = None
    for name, measure in lines:
        got = measure()
        base = base or got
        cells = (
            f"{label} {got[key]:.3f} ({got[key] - base[key]:+.3f})"
            for key, label in (("caption_all_sounds", "captions"), ("questions_right", "questions"))
        )
        print(
            f"{name:<44} {'  '.join(cells)}",
            flush=True,
        )


TABLES: dict[str, tuple[str, Callable[[World], list[Line]]]] = {
    "santa": ("Santa", santa_lines),
    "answers": ("Decoding and CLAP, with Santa", answer_lines),
    "training": (
        "Training, without Santa",
        lambda world: training_lines(world.config, world.audio_NC, world.clips),
    ),
}


def main() -> None:
    """Measure line by line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("configs/toy.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for mats")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = load_config(args.config, args.set)
    with tempfile.TemporaryDirectory() as scratch:
        world = World(config, write_test_set(config, Path(scratch)))
        for name in args.tables:
            title, lines = TABLES[name]
            table(title, lines(world))


if __name__ == "__main__":
    main()
