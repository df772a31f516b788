"""DeepSpeed behind the ``TrainEngine`` protocol: ZeRO 0 to 3; only what is trained has optimizer state."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import deepspeed
import deepspeed.ops
import torch
from deepspeed import comm
from torch import nn
from torch.nn.utils import get_total_norm

from mats_ray.config.train import EngineConfig, TrainConfig
from mats_ray.models.mats import MATS, TrainBatch
from mats_ray.train.engine import OPTIMIZER_KEYS, EngineState, StepResult, evaluating
from mats_ray.train.optim import parameter_groups, seed_dropout
from mats_ray.train.zero_state import WEIGHT, ZeroState, zero_state


def stage_for(engine: EngineConfig, *, num_workers: int) -> int:
    """Return the ZeRO stage to run.

    One worker has nothing to partition: stages 1 and 2 would only copy each gradient of each micro-batch into
    buckets. In fp32 it is therefore plain AdamW, stage 0; in bf16 the stages differ in what they round.
    """
    alone = num_workers == 1 and engine.zero_stage < 3 and engine.precision == "fp32"
    return 0 if alone else engine.zero_stage


def zero_config(config: TrainConfig, *, num_workers: int) -> dict[str, Any]:
    """Derive DeepSpeed's configuration; no choice is left to its defaults."""
    return {
        "train_batch_size": config.global_batch_size,
        "train_micro_batch_size_per_gpu": config.micro_batch_size,
        "gradient_accumulation_steps": config.accumulation_steps(num_workers),
        "gradient_clipping": config.optim.max_grad_norm,
        "zero_optimization": {"stage": stage_for(config.engine, num_workers=num_workers)},
        "zero_allow_untested_optimizer": True,  # torch's AdamW: the fused CPU one would need a compiler
        "bf16": {"enabled": config.engine.precision == "bf16"},
        "steps_per_print": 2**31 - 1,
    }


def _partition(model: nn.Module, settings: dict[str, Any], *, device: str) -> None:
    """Partition the parameters for stage 3, one after the other on their way from the host to the device.

    ``deepspeed.initialize`` (0.19.8) first moves a model that is not partitioned to the device as a whole. Of
    one that is, it neither casts the parameters nor moves the buffers.
    """
    if settings["bf16"]["enabled"]:
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16()
    deepspeed.zero.Init(module=model, config_dict_or_path=settings)
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device)


class DeepSpeedEngine:
    """One worker of a ZeRO group.

    Gradients are averaged over workers by DeepSpeed; the loss is therefore scaled so that the average equals
    the gradient of the mean over all answer tokens of the global batch, for any split of it.
    """

    def __init__(self, model: MATS, config: TrainConfig, *, device: str) -> None:
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        if device == "cpu":
            # The shared-memory op of the CPU backend is compiled at first use; gloo works without a compiler.
            # (Of a GPU the attribute alone would look for a compiler of each of its ops.)
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # pyright: ignore[reportAttributeAccessIssue]
        comm.init_distributed(dist_init_required=False)
        self.num_workers = comm.get_world_size()
        self.model, self.device = model, device
        self.trained_parameters: Mapping[str, nn.Parameter] = {
            name: p for name, p in model.named_parameters() if p.requires_grad
        }
        groups = parameter_groups(self.trained_parameters.items(), config.optim)
        # lr 0 until the first update: some of DeepSpeed's optimizers step once, on zeros, when they are made
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=config.optim.betas)
        settings = zero_config(config, num_workers=self.num_workers)
        stage = stage_for(config.engine, num_workers=self.num_workers)
        if stage == 3:
            _partition(model, settings, device=device)
        self.engine, zero, *_ = deepspeed.initialize(  # casts on the host, then moves to the device
            model=model.train(),
            optimizer=optimizer,
            model_parameters=list(self.trained_parameters.values()),  # pyright: ignore[reportArgumentType]  (typed Module)
            config=settings,
            dist_init_required=False,
        )
        self.optimizer: Any = zero  # typed as every kind of optimizer there is
        self.zero_state: ZeroState = zero_state(stage, self.trained_parameters, zero, OPTIMIZER_KEYS)
        self.zero_state.reset(0)
        self.num_updates = 0

    def train_step(
        self, micro_batches: Sequence[TrainBatch], *, lr: float, seeds: Sequence[int]
    ) -> StepResult:
        """See ``TrainEngine``."""
        answer_tokens, text_tokens = self._sum(
            [
                sum(batch.num_answer_tokens for batch in micro_batches),
                sum(batch.num_text_tokens for batch in micro_batches),
            ]
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        on_device: list[torch.Tensor] = []
        grad_norm: float | None = None
        for batch, seed in zip(micro_batches, seeds, strict=True):
            seed_dropout(seed)
            loss = self.engine(self.model.laid_out(batch).to(self.device))
            self.engine.backward(loss * (self.num_workers / answer_tokens), scale_wrt_gas=False)
            grad_norm = self._norm_of_plain_gradients()
            self.engine.step()
            on_device.append(loss.detach())
        losses: list[float] = torch.stack(on_device).tolist()  # at the end: the device need not wait for it
        self.num_updates += 1
        (total_loss,) = self._sum([sum(losses)])
        if grad_norm is None:
            grad_norm = float(self.engine.get_global_grad_norm() or 0.0)
        if getattr(self.optimizer, "overflow", False):  # then DeepSpeed has skipped the update silently
            grad_norm = math.inf
        return StepResult(total_loss, int(answer_tokens), int(text_tokens), grad_norm, tuple(losses))

    def evaluate(self, batches: Sequence[TrainBatch]) -> tuple[float, int]:
        """See ``TrainEngine``."""
        with evaluating(self.engine):
            losses = [self.engine(self.model.laid_out(batch).to(self.device)).item() for batch in batches]
        loss_sum, tokens = self._sum([sum(losses), sum(batch.num_answer_tokens for batch in batches)])
        return loss_sum, int(tokens)

    def state(self) -> EngineState:
        """See ``TrainEngine``; gathers one parameter at a time."""
        trained, moments = {}, {}
        for name, parameter in self.trained_parameters.items():
            trained[name] = self.zero_state.read(parameter, WEIGHT).float().cpu().clone()
            for key in OPTIMIZER_KEYS:
                moments[f"{key}/{name}"] = self.zero_state.read(parameter, key).float().cpu().clone()
        return EngineState(trained, moments, self.num_updates)

    def load_state(self, state: EngineState) -> None:
        """See ``TrainEngine``; each worker keeps its own part of the whole."""
        self.num_updates = state.num_updates
        self.zero_state.reset(state.num_updates)
        for name, parameter in self.trained_parameters.items():
            self.zero_state.write(parameter, WEIGHT, state.trained[name].to(self.device))
            for key in OPTIMIZER_KEYS:
                self.zero_state.write(parameter, key, state.moments[f"{key}/{name}"].to(self.device))

    def _norm_of_plain_gradients(self) -> float | None:
        """Return the norm before clipping; in stage 0 and fp32 no wrapper around AdamW has it."""
        if (
            not isinstance(self.optimizer, torch.optim.Optimizer)
            or not self.engine.is_gradient_accumulation_boundary()
        ):
            return None
        return float(get_total_norm([p.grad for p in self.trained_parameters.values() if p.grad is not None]))

    def _sum(self, values: Sequence[float]) -> list[float]:
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        comm.all_reduce(total)
        return total.tolist()
