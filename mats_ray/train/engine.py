"""What turns micro-batches into an update: the ``TrainEngine`` protocol, and plain torch as one form."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mats_ray.config.train import OptimConfig
from mats_ray.models.mats import MATS, TrainBatch
from mats_ray.train.optim import parameter_groups
from mats_ray.train.seeding import seed_dropout

OPTIMIZER_KEYS = ("exp_avg", "exp_avg_sq")
"""AdamW's moments, kept in checkpoints per parameter."""


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
    """Summed cross-entropy of each of this worker's own micro-batches."""


@dataclass(frozen=True, slots=True)
class EngineState:
    """Everything an engine needs to go on, in a form that does not know how many workers there were."""

    trained: dict[str, Tensor]
    """Trained parameters by name, float32."""
    moments: dict[str, Tensor]
    """``exp_avg/<name>`` and ``exp_avg_sq/<name>``, float32."""
    num_updates: int


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout and gradients inside, ready to train again afterwards."""
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train()


class TrainEngine(Protocol):
    """Owns the model, the optimizer and, across workers, the sums."""

    model: MATS
    device: str
    named: Mapping[str, nn.Parameter]
    """What is trained, by name."""

    def train_step(
        self, micro_batches: Sequence[TrainBatch], *, lr: float, seeds: Sequence[int]
    ) -> StepResult:
        """Accumulate gradients of this worker's micro-batches, reduce, clip, update.

        Args:
            micro_batches: Of this worker, as many on every worker.
            lr: Of this update.
            seeds: One per micro-batch: dropout draws from nothing else.
        """
        ...

    def evaluate(self, batches: Sequence[TrainBatch]) -> tuple[float, int]:
        """Return summed loss and answer tokens of all workers' batches; as many on every worker."""
        ...

    def state(self) -> EngineState:
        """Collect the state; every worker must call it, the first one gets all tensors."""
        ...

    def load_state(self, state: EngineState) -> None:
        """Take up a state; every worker calls it with the whole state."""
        ...


class TorchEngine:
    """Plain AdamW in one process."""

    def __init__(self, model: MATS, config: OptimConfig, *, device: str = "cpu") -> None:
        self.model: MATS = model.to(device).train()
        self.device = device
        self.max_grad_norm = config.max_grad_norm
        self.named: Mapping[str, nn.Parameter] = {
            name: p for name, p in model.named_parameters() if p.requires_grad
        }
        groups = parameter_groups(self.named.items(), config)
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)
        self.num_updates = 0
        for parameter in self.named.values():
            self._set_moments(parameter, [torch.zeros_like(parameter) for _ in OPTIMIZER_KEYS])

    def train_step(
        self, micro_batches: Sequence[TrainBatch], *, lr: float, seeds: Sequence[int]
    ) -> StepResult:
        """See ``TrainEngine``."""
        answer_tokens = sum(batch.num_answer_tokens for batch in micro_batches)
        losses: list[float] = []
        for batch, seed in zip(micro_batches, seeds, strict=True):
            seed_dropout(seed)
            loss = self.model(batch.to(self.device))
            (loss / answer_tokens).backward()
            losses.append(loss.item())
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        grad_norm = torch.nn.utils.clip_grad_norm_(self.named.values(), self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.num_updates += 1
        text_tokens = sum(batch.num_text_tokens for batch in micro_batches)
        return StepResult(sum(losses), answer_tokens, text_tokens, float(grad_norm), tuple(losses))

    def evaluate(self, batches: Sequence[TrainBatch]) -> tuple[float, int]:
        """See ``TrainEngine``."""
        with evaluating(self.model):
            losses = [self.model(batch.to(self.device)).item() for batch in batches]
        return sum(losses), sum(batch.num_answer_tokens for batch in batches)

    def state(self) -> EngineState:
        """See ``TrainEngine``."""
        trained = {name: p.detach().float().cpu().clone() for name, p in self.named.items()}
        moments = {
            f"{key}/{name}": self.optimizer.state[p][key].float().cpu().clone()
            for name, p in self.named.items()
            for key in OPTIMIZER_KEYS
        }
        return EngineState(trained, moments, self.num_updates)

    def load_state(self, state: EngineState) -> None:
        """See ``TrainEngine``."""
        self.num_updates = state.num_updates
        for name, parameter in self.named.items():
            parameter.data.copy_(state.trained[name])
            self._set_moments(parameter, [state.moments[f"{key}/{name}"] for key in OPTIMIZER_KEYS])

    def _set_moments(self, parameter: nn.Parameter, moments: Sequence[Tensor]) -> None:
        """Make AdamW's state, which it would otherwise make itself, zero, at the first update."""
        values = [moment.to(parameter.device) for moment in moments]
        step = torch.tensor(float(self.num_updates))
        self.optimizer.state[parameter] = {"step": step, **dict(zip(OPTIMIZER_KEYS, values, strict=True))}
