"""Models trained otherwise than ours, for ``fidelity.py``: one worker of plain torch, the demo's texts."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from bench_train import row_tables

from mats_ray.config import RunConfig
from mats_ray.infer.answerer import Answerer
from mats_ray.models.bridges.bridge import NoBridge
from mats_ray.models.build import build_mats
from mats_ray.models.mats import MATS
from mats_ray.toy.demo.systems import answer_samples
from mats_ray.toy.demo.testset import TestClip, samples_of, shares_right
from mats_ray.train.dataloader import micro_batches
from mats_ray.train.engine import TorchEngine
from mats_ray.train.loop import LocalContext, fit


def training_lines(config: RunConfig, audio_NC: np.ndarray, clips: list[TestClip]):
    """Models trained otherwise, evaluated without Santa."""
    variance, toy = config.model.noise.variance, (config, audio_NC, clips)
    return [
        ("ours", lambda: trained(toy)),
        ("another seed of weights, order and noise", lambda: trained(toy, seed=1)),
        ("no noise", lambda: trained(toy, model={"noise": {"variance": 0.0}})),
        (
            "sigma read as a standard deviation",
            lambda: trained(toy, model={"noise": {"variance": variance**2}}),
        ),
        ("mapper: mlp", lambda: trained(toy, model={"mapper": {"type": "mlp"}})),
        ("upstream: queries from N(0, 1)", lambda: trained(toy, queries_std=1.0)),
        ("mean of the micro-batches' means", lambda: trained(toy, engine=MeanOfMeans)),
    ]


class MeanOfMeans(TorchEngine):
    """Each micro-batch counts alike, however many answer tokens it has."""

    def train_step(self, micro_batches, **how):
        total = sum(batch.num_answer_tokens for batch in micro_batches)
        with weighted(self.model, total / len(micro_batches)):
            return super().train_step(micro_batches, **how)


@contextmanager
def weighted(model: MATS, mean_tokens: float) -> Iterator[None]:
    def scaled(batch):
        return type(model).forward(model, batch) * (mean_tokens / batch.num_answer_tokens)

    model.forward = scaled
    try:
        yield
    finally:
        del model.forward


def trained(toy, *, queries_std: float | None = None, engine=TorchEngine, **changes) -> dict[str, float]:
    config, audio_NC, clips = toy
    config = config.replace(
        scaling={"num_workers": 1},
        train={"engine": {"type": "torch"}, "checkpoint": {"every_steps": 10**6}},
        **changes,
    )
    model, prompts = build_mats(config.model, llm_path=config.llm_path, seed=config.seed)
    if queries_std is not None:
        with torch.no_grad():
            model.connector.audio_mapper.prefix_const.normal_(
                std=queries_std, generator=torch.Generator().manual_seed(config.seed)
            )
    context = LocalContext()
    fit(
        engine(model, config.train.optim), micro_batches(row_tables(config), prompts, config), context, config
    )
    for folder in context.checkpoints:
        shutil.rmtree(folder)
    print(f"    last loss {context.records[-1]['loss']:.4f}")
    answerer = Answerer(model.eval(), prompts, NoBridge(), config.generation)
    samples = samples_of(clips)
    return shares_right(samples, answer_samples(answerer, audio_NC, clips, samples))
