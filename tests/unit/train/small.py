"""A run in miniature for tests of the loop and the engine: eight samples, a tiny LLaMA, plain torch."""

from collections.abc import Iterator, Sequence

import numpy as np

from mats_ray.config import RunConfig
from mats_ray.data.collate import Collator
from mats_ray.models.build import build_mats
from mats_ray.models.llm import load_tokenizer
from mats_ray.models.mats import TrainBatch
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.train.engine import StepResult, TorchEngine, TrainEngine

CLAP_DIM = 16
SAMPLES = [
    ("Is there a dog?", "yes"),
    ("Is there a dog?", "no"),
    ("Describe the following audio in a caption.", "a dog barks while rain falls on the roof"),
    ("Describe the following audio in a caption.", "a siren wails"),
    ("dog?", "a bell rings"),
    ("rain?", "yes"),
    ("Describe the following audio in a caption.", "rain falls on the roof while a siren wails and a bell"),
    ("Is there rain?", "no"),
]
"""Answers of many lengths: a mean of means would differ from the mean over all tokens."""


def small_run(llm_path: str, **changes) -> RunConfig:
    """Six steps of eight samples; dropout is on, so that resuming has something to get wrong."""
    config = RunConfig.model_validate(
        {
            "name": "small",
            "model": {
                "clap": {"ref": "unused", "dim": CLAP_DIM},
                "mapper": {"hidden_dim": 32, "num_layers": 1, "num_heads": 2, "prefix_length": 3},
                "llm": {"path": llm_path, "lora": {"rank": 2, "dropout": 0.1}},
            },
            "train": {
                "num_steps": 6,
                "global_batch_size": 8,
                "micro_batch_size": 4,
                "log_every": 1,
                "optim": {"lr": 1e-3},
                "schedule": {"type": "cosine", "warmup_steps": 2},
                "engine": {"type": "torch"},
                "checkpoint": {"every_steps": 2},
            },
        }
    )
    return config.replace(**changes) if changes else config


def fresh_engine(config: RunConfig) -> TorchEngine:
    """Build what a worker builds."""
    model, _ = build_mats(config.model, llm_path=config.llm_path, seed=config.seed)
    return TorchEngine(model, config.train.optim)


def stream(config: RunConfig, *, start_step: int = 0, num_steps: int | None = None) -> Iterator[TrainBatch]:
    """Yield one worker's micro-batches, the eight samples over and over, from a step on."""
    collate = Collator(PromptTokenizer(load_tokenizer(config.llm_path)), 100)
    clap_NC = np.random.default_rng(0).standard_normal((len(SAMPLES), CLAP_DIM))
    clap_NC /= np.linalg.norm(clap_NC, axis=1, keepdims=True)
    size, stop = config.train.micro_batch_size, num_steps or config.train.num_steps
    for first in range(
        start_step * config.train.global_batch_size, stop * config.train.global_batch_size, size
    ):
        rows = [sample % len(SAMPLES) for sample in range(first, first + size)]
        texts = zip(*(SAMPLES[row] for row in rows), strict=True)
        yield collate(clap_NC[rows], *texts, [f"s/{row}" for row in rows])


def update(engine: TrainEngine, micro_batches: Sequence[TrainBatch], *, lr: float) -> StepResult:
    """One step with arbitrary dropout seeds."""
    return engine.train_step(micro_batches, lr=lr, seeds=range(len(micro_batches)))
