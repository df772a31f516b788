"""Training engines, which turn micro-batches into an update: protocol, plain torch, choice by configuration.

Another engine is a file with a class of this protocol, a value of ``train.engine.type`` and a line in
``build_engine``.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mats_ray.config import RunConfig
from mats_ray.config.train import OptimConfig
from mats_ray.models.mats import MATS, TrainBatch
from mats_ray.train.optim import parameter_groups, seed_dropout

OPTIMIZER_KEYS = ("exp_avg", "exp_avg_sq")
"""AdamW's moments, which checkpoints hold per parameter."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """One update, summed over all workers."""

    loss_sum: float
    """Cross-entropy summed over the answer tokens of the global batch."""
    num_answer_tokens: int
    num_text_tokens: int
    """Non-padding tokens of the global batch, the audio prefix left out."""
    grad_norm: float
    """Before clipping."""
    losses: tuple[float, ...] = ()
    """Summed cross-entropy of each micro-batch of this worker."""


@dataclass(frozen=True, slots=True)
class EngineState:
    """Everything an engine needs to resume, independent of the number of workers."""

    trained: dict[str, Tensor]
    """Trained parameters by name, float32."""
    moments: dict[str, Tensor]
    """``exp_avg/<name>`` and ``exp_avg_sq/<name>``, float32."""
    num_updates: int


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Disable dropout and gradients inside; training mode again afterwards."""
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train()


class TrainEngine(Protocol):
    """Owns the model, the optimizer and the reductions over workers."""

    model: MATS
    device: str
    trained_parameters: Mapping[str, nn.Parameter]
    """By name."""
    num_updates: int
    """Number of updates done, those before a resume included."""

    def train_step(
        self, micro_batches: Sequence[TrainBatch], *, lr: float, seeds: Sequence[int]
    ) -> StepResult:
        """Accumulate gradients of this worker's micro-batches, reduce, clip, update.

        Args:
            micro_batches: Micro-batches of this worker; their number is the same on every worker.
            lr: Learning rate of this update.
            seeds: One per micro-batch, for dropout.
        """
        ...

    def evaluate(self, batches: Sequence[TrainBatch]) -> tuple[float, int]:
        """Return summed loss and answer tokens over all workers, which have the same number of batches."""
        ...

    def state(self) -> EngineState:
        """Collect the state; every worker must call it, rank 0 gets all tensors."""
        ...

    def load_state(self, state: EngineState) -> None:
        """Load a state; every worker calls it with the whole state."""
        ...


class TorchEngine:
    """Plain AdamW in one process."""

    def __init__(self, model: MATS, config: OptimConfig, *, device: str = "cpu") -> None:
        self.model: MATS = model.to(device).train()
        self.device = device
        self.max_grad_norm = config.max_grad_norm
        self.trained_parameters: Mapping[str, nn.Parameter] = {
            name: p for name, p in model.named_parameters() if p.requires_grad
        }
        groups = parameter_groups(self.trained_parameters.items(), config)
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)
        self.num_updates = 0
        for parameter in self.trained_parameters.values():
            self._set_moments(parameter, [torch.zeros_like(parameter) for _ in OPTIMIZER_KEYS])

    def train_step(
        self, micro_batches: Sequence[TrainBatch], *, lr: float, seeds: Sequence[int]
    ) -> StepResult:
        """See ``TrainEngine``."""
        answer_tokens = sum(batch.num_answer_tokens for batch in micro_batches)
        on_device: list[Tensor] = []
        for batch, seed in zip(micro_batches, seeds, strict=True):
            seed_dropout(seed)
            loss = self.model(self.model.laid_out(batch).to(self.device))
            (loss / answer_tokens).backward()
            on_device.append(loss.detach())
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        grad_norm = torch.nn.utils.clip_grad_norm_(self.trained_parameters.values(), self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.num_updates += 1
        text_tokens = sum(batch.num_text_tokens for batch in micro_batches)
        losses: list[float] = torch.stack(on_device).tolist()  # at the end: the device need not wait for it
        return StepResult(sum(losses), answer_tokens, text_tokens, float(grad_norm), tuple(losses))

    def evaluate(self, batches: Sequence[TrainBatch]) -> tuple[float, int]:
        """See ``TrainEngine``."""
        with evaluating(self.model):
            losses = [self.model(self.model.laid_out(batch).to(self.device)).item() for batch in batches]
        return sum(losses), sum(batch.num_answer_tokens for batch in batches)

    def state(self) -> EngineState:
        """See ``TrainEngine``."""
        trained = {name: p.detach().float().cpu().clone() for name, p in self.trained_parameters.items()}
        moments = {
            f"{key}/{name}": self.optimizer.state[p][key].float().cpu().clone()
            for name, p in self.trained_parameters.items()
            for key in OPTIMIZER_KEYS
        }
        return EngineState(trained, moments, self.num_updates)

    def load_state(self, state: EngineState) -> None:
        """See ``TrainEngine``."""
        self.num_updates = state.num_updates
        for name, parameter in self.trained_parameters.items():
            parameter.data.copy_(state.trained[name])
            self._set_moments(parameter, [state.moments[f"{key}/{name}"] for key in OPTIMIZER_KEYS])

    def _set_moments(self, parameter: nn.Parameter, moments: Sequence[Tensor]) -> None:
        """Create AdamW's state, which AdamW would otherwise create as zeros at the first update."""
        values = [moment.to(parameter.device) for moment in moments]
        step = torch.tensor(float(self.num_updates))
        self.optimizer.state[parameter] = {"step": step, **dict(zip(OPTIMIZER_KEYS, values, strict=True))}


def build_engine(config: RunConfig, model: MATS, device: str) -> TrainEngine:
    """Build the engine that ``train.engine.type`` names."""
    if config.train.engine.type == "torch":
        return TorchEngine(model, config.train.optim, device=device)
    from mats_ray.train.on_deepspeed import DeepSpeedEngine  # a slow import, for workers only

    return DeepSpeedEngine(model, config.train, device=device)
