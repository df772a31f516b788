"""What a machine forces a shipped configuration to change: missing files, workers, devices, steps."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mats_ray.config import RunConfig

MAX_CPU_WORKERS = 2
"""Training workers without a GPU: two, so that ZeRO has something to partition."""
CPU_ANSWER_SECONDS = 1_800.0
"""Time of one answer without a GPU: every token reads all weights from memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine of a rehearsal."""

    num_cores: int
    num_gpus: int

    @classmethod
    def this(cls) -> "Machine":
        """Describe this machine."""
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return cls(num_cores=os.cpu_count() or 1, num_gpus=gpus)


@dataclass(frozen=True, slots=True)
class Change:
    """One value of the configuration that is not the shipped one."""

    key: str
    shipped: Any
    value: Any
    reason: str

    @property
    def shipped_text(self) -> str:
        """The shipped value, shortened."""
        return _short(self.shipped)

    @property
    def value_text(self) -> str:
        """The value here, shortened."""
        return _short(self.value)

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.key}: {self.shipped_text} -> {self.value_text} ({self.reason})"


def _short(value: Any) -> str:
    if isinstance(value, list | tuple) and value:
        return f"{len(value)} entries"
    return "none" if value in (None, (), []) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Files that take the place of what a configuration names."""

    clap: str
    clap_tokenizer: str | None
    """None: it is part of the CLAP."""
    llm: str
    sources: list[dict[str, object]]
    output_dir: str


def changes_for(config: RunConfig, machine: Machine, inputs: Inputs, *, num_steps: int) -> list[Change]:
    """List what must change for a configuration to run on a machine.

    Args:
        config: As shipped.
        machine: Where it is rehearsed.
        inputs: Stand-ins and rows.
        num_steps: Steps of training, at least 2: the first checkpoint comes halfway.
    """
    every = [*_of_inputs(inputs), *_of_steps(num_steps), *_of_workers(config, machine)]
    shipped = config.model_dump(mode="json")
    found = [(key, _value(shipped, key), value, reason) for key, value, reason in every]
    return [Change(key, before, value, reason) for key, before, value, reason in found if before != value]


def overlay(changes: list[Change]) -> dict[str, Any]:
    """Return the changes as a configuration file to lay over the shipped one."""
    tree: dict[str, Any] = {}
    for change in changes:
        *sections, last = change.key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[last] = change.value
    return tree


def _value(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree


def _of_inputs(inputs: Inputs) -> Iterator[tuple[str, Any, str]]:
    reason = "a stand-in: no model hub"
    yield "output_dir", inputs.output_dir, "a folder of the rehearsal"
    yield "model.clap.ref", inputs.clap, reason
    yield "model.clap.tokenizer", inputs.clap_tokenizer, reason
    yield "model.llm.path", inputs.llm, reason
    yield "data.prepare.sources", inputs.sources, "rows in the published formats"


def _of_steps(num_steps: int) -> Iterator[tuple[str, Any, str]]:
    yield "train.num_steps", num_steps, "steps of a rehearsal"
    yield "train.schedule.warmup_steps", 1, "below the number of steps"
    yield "train.checkpoint.every_steps", max(1, num_steps // 2), "one checkpoint before the kill"
    yield "train.log_every", 1, "every step is measured"


def _of_workers(config: RunConfig, machine: Machine) -> Iterator[tuple[str, Any, str]]:
    gpus, cores = machine.num_gpus, machine.num_cores
    reason = f"{gpus} GPUs here" if gpus else f"{cores} cores and no GPU here"
    workers = min(config.scaling.max_workers, gpus or min(MAX_CPU_WORKERS, cores))
    yield "scaling.num_workers", workers, reason
    yield "data.embed.concurrency", min(config.data.embed.concurrency, gpus or 1), reason
    yield "caption.concurrency", min(config.caption.concurrency, gpus or 1), reason
    yield "caption.decode_concurrency", min(config.caption.decode_concurrency or cores, cores), reason
    if gpus:
        share = min(1.0, gpus / 2)  # encoder and answerer run beside each other
        yield "serve.encoder.gpus", share, reason
        yield "serve.answerer.gpus", share, reason
        return
    yield "scaling.use_gpu", False, reason
    yield "scaling.cpus_per_worker", 1.0, reason
    yield "scaling.threads_per_worker", max(1, cores // workers), reason
    yield "data.embed.gpus_per_actor", 0.0, reason
    yield "caption.gpus_per_actor", 0.0, reason
    yield "serve.request_timeout_seconds", CPU_ANSWER_SECONDS, reason
