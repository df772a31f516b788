"""What turns micro-batches into an update: the ``TrainEngine`` protocol, and plain torch as one form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mats_ray.config.train import OptimConfig
from mats_ray.models.mats import MATS, TrainBatch
from mats_ray.train.optim import parameter_groups

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


@dataclass(frozen=True, slots=True)
class EngineState:
    """Everything an engine needs to go on, in a form that does not know how many workers there were."""

    trained: dict[str, Tensor]
    """Trained parameters by name, float32."""
    moments: dict[str, Tensor]
    """``exp_avg/<name>`` and ``exp_avg_sq/<name>``, float32."""
    num_updates: int


class TrainEngine(Protocol):
    """Owns the model, the optimizer and, across workers, the sums."""

    def train_step(self, micro_batches: Sequence[TrainBatch], *, lr: float) -> StepResult:
        """Accumulate gradients of this worker's micro-batches, reduce, clip, update."""
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
        self.model = model.to(device).train()
        self.device = device
        self.max_grad_norm = config.max_grad_norm
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        groups = parameter_groups(self.named.items(), config)
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)
        self.num_updates = 0
        for parameter in self.named.values():
            self._set_moments(parameter, [torch.zeros_like(parameter) for _ in OPTIMIZER_KEYS])

    def train_step(self, micro_batches: Sequence[TrainBatch], *, lr: float) -> StepResult:
        """See ``TrainEngine``."""
        answer_tokens = sum(batch.num_answer_tokens for batch in micro_batches)
        loss_sum = 0.0
        for batch in micro_batches:
            loss = self.model(batch.to(self.device))
            (loss / answer_tokens).backward()
            loss_sum += loss.item()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        grad_norm = torch.nn.utils.clip_grad_norm_(self.named.values(), self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.num_updates += 1
        text_tokens = sum(batch.num_text_tokens for batch in micro_batches)
        return StepResult(loss_sum, answer_tokens, text_tokens, float(grad_norm))

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
