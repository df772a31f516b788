"""DeepSpeed behind the ``TrainEngine`` protocol: ZeRO-1/2 over the trained parameters only."""

import logging
from collections.abc import Sequence
from typing import Any

import deepspeed
import deepspeed.ops
import torch
from deepspeed import comm
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)

from mats_ray.config.train import TrainConfig
from mats_ray.models.mats import MATS, TrainBatch
from mats_ray.train.engine import OPTIMIZER_KEYS, EngineState, StepResult
from mats_ray.train.optim import parameter_groups


def zero_config(config: TrainConfig, *, num_workers: int) -> dict[str, Any]:
    """Derive DeepSpeed's configuration; everything it would decide for itself is decided here."""
    return {
        "train_batch_size": config.global_batch_size,
        "train_micro_batch_size_per_gpu": config.micro_batch_size,
        "gradient_accumulation_steps": config.accumulation_steps(num_workers),
        "gradient_clipping": config.optim.max_grad_norm,
        "zero_optimization": {"stage": config.engine.zero_stage},
        "zero_allow_untested_optimizer": True,  # torch's AdamW: the fused CPU one would need a compiler
        "bf16": {"enabled": config.engine.precision == "bf16"},
        "steps_per_print": 2**31 - 1,
    }


class DeepSpeedEngine:
    """One worker of a ZeRO group.

    Gradients are averaged over workers by DeepSpeed; the loss is therefore scaled so that the average equals
    the gradient of the mean over all answer tokens of the global batch, for any split of it.
    """

    def __init__(self, model: MATS, config: TrainConfig, *, device: str) -> None:
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        # The shared-memory op of the CPU backend is compiled at first use; gloo works without a compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # pyright: ignore[reportAttributeAccessIssue]
        self.num_workers = (
            comm.get_world_size() if comm.is_initialized() else torch.distributed.get_world_size()
        )
        self.device = device
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        groups = parameter_groups(self.named.items(), config.optim)
        optimizer = torch.optim.AdamW(groups, lr=config.optim.lr, betas=config.optim.betas)
        self.engine, zero, *_ = deepspeed.initialize(
            model=model.to(device).train(),
            optimizer=optimizer,
            model_parameters=list(self.named.values()),  # pyright: ignore[reportArgumentType]  (typed Module)
            config=zero_config(config, num_workers=self.num_workers),
            dist_init_required=False,
        )
        self.zero: Any = zero  # typed as every kind of optimizer there is; with this configuration, ZeRO-1/2
        self.num_updates = 0
        self._make_moments(0)

    def train_step(self, micro_batches: Sequence[TrainBatch], *, lr: float) -> StepResult:
        """See ``TrainEngine``."""
        answer_tokens, text_tokens = self._sum(
            [
                sum(batch.num_answer_tokens for batch in micro_batches),
                sum(batch.num_text_tokens for batch in micro_batches),
            ]
        )
        for group in self.zero.param_groups:
            group["lr"] = lr
        loss_sum = 0.0
        for batch in micro_batches:
            loss = self.engine(batch.to(self.device))
            self.engine.backward(loss * (self.num_workers / answer_tokens), scale_wrt_gas=False)
            self.engine.step()
            loss_sum += loss.item()
        self.num_updates += 1
        (total_loss,) = self._sum([loss_sum])
        grad_norm = self.engine.get_global_grad_norm()
        return StepResult(total_loss, int(answer_tokens), int(text_tokens), float(grad_norm or 0.0))

    def state(self) -> EngineState:
        """See ``TrainEngine``; gathers one parameter at a time."""
        trained, moments = {}, {}
        for name, parameter in self.named.items():
            trained[name] = _gathered(safe_get_full_fp32_param(parameter))
            for key in OPTIMIZER_KEYS:
                moments[f"{key}/{name}"] = _gathered(safe_get_full_optimizer_state(parameter, key))
        return EngineState(trained, moments, self.num_updates)

    def load_state(self, state: EngineState) -> None:
        """See ``TrainEngine``; each worker keeps its own part of the whole."""
        self.num_updates = state.num_updates
        self._make_moments(state.num_updates)
        for name, parameter in self.named.items():
            parameter.data.copy_(state.trained[name])
            safe_set_full_fp32_param(parameter, state.trained[name].to(self.device))
            for key in OPTIMIZER_KEYS:
                safe_set_full_optimizer_state(parameter, state.moments[f"{key}/{name}"].to(self.device), key)

    def _make_moments(self, num_updates: int) -> None:
        """Make AdamW's state, zero, before the first update: a resumed run fills it.

        And DeepSpeed 0.19.8 links parameters to their state after the first *group's* first update, when the
        other groups have none yet; made here, all are linked. The private call is the one step() makes.
        """
        for partition in self.zero.single_partition_of_fp32_groups:
            self.zero.optimizer.state[partition] = {
                "step": torch.tensor(float(num_updates)),
                **{key: torch.zeros_like(partition) for key in OPTIMIZER_KEYS},
            }
        self.zero._hp_optimizer_states_linked = False
        self.zero._lazy_init_hp_params_optimizer_state()

    def _sum(self, values: Sequence[float]) -> list[float]:
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        comm.all_reduce(total)
        return total.tolist()


def _gathered(tensor: torch.Tensor | None) -> torch.Tensor:
    assert tensor is not None, "DeepSpeed no longer maps this parameter to its fp32 master copy"
    return tensor.float().cpu().clone()
