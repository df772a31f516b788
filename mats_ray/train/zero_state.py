"""Access to DeepSpeed's float32 weights and Adam moments of each ZeRO stage, by parameter.

Stage 0 keeps them whole on every worker, 1 and 2 in fragments of flat groups, 3 in one slice per parameter
and worker. Checkpoints hold them whole and by name, so any stage resumes from any other's. The attributes are
those of DeepSpeed 0.19.8, to which the lock pins us; its own ``safe_set_*`` supports no stage 0 and, in
stage 3, no parameter whose size the number of workers does not divide.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

WEIGHT = None
"""As key: the float32 weight itself; otherwise the name of a moment."""


class ZeroState(Protocol):
    """Whole tensors in and out; every worker calls each method for the same parameters in the same order."""

    def reset(self, num_updates: int) -> None:
        """Set all moments to zero, as before the first update, and AdamW's count."""
        ...

    def read(self, parameter: nn.Parameter, key: str | None) -> Tensor:
        """Return a weight or moment, whole, float32."""
        ...

    def write(self, parameter: nn.Parameter, key: str | None, value: Tensor) -> None:
        """Set a weight or moment; a weight reaches the copy the forward pass uses, too."""
        ...


def zero_state(
    stage: int, parameters: Mapping[str, nn.Parameter], optimizer: Any, keys: tuple[str, ...]
) -> ZeroState:
    """Choose by stage; ``optimizer`` is what ``deepspeed.initialize`` returned."""
    if stage == 0:
        return Replicated(parameters, optimizer, keys)
    return Sliced(optimizer, keys) if stage == 3 else Fragmented(optimizer, keys)


class Replicated:
    """Stage 0: torch's AdamW itself, or in bf16 a wrapper with one float32 copy per parameter."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], optimizer: Any, keys: tuple[str, ...]) -> None:
        self._keys = keys
        self._states: dict[Any, Any] = optimizer.state
        self._masters = {parameter: parameter for parameter in parameters.values()}
        if hasattr(optimizer, "fp32_groups"):
            for low, high in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
                self._masters.update(zip(low, high, strict=True))

    def reset(self, num_updates: int) -> None:
        """See ``ZeroState``."""
        for master in self._masters.values():
            self._states[master] = _zero_moments(master, self._keys, num_updates)

    def read(self, parameter: nn.Parameter, key: str | None) -> Tensor:
        """See ``ZeroState``."""
        master = self._masters[parameter]
        return (master.detach() if key is WEIGHT else self._states[master][key]).clone()

    def write(self, parameter: nn.Parameter, key: str | None, value: Tensor) -> None:
        """See ``ZeroState``."""
        master = self._masters[parameter]
        if key is not WEIGHT:
            self._states[master][key].copy_(value)
            return
        master.data.copy_(value)
        parameter.data.copy_(value)


class Fragmented:
    """Stages 1 and 2: a parameter's part of this worker's slice of a flat group, by ``_hp_mapping``."""

    def __init__(self, optimizer: Any, keys: tuple[str, ...]) -> None:
        self._optimizer, self._keys = optimizer, keys

    def reset(self, num_updates: int) -> None:
        """See ``ZeroState``.

        DeepSpeed links parameters to their state after the first *group's* first update, when the other
        groups have none yet; made here, all are linked. The private call is the one step() makes.
        """
        for partition in self._optimizer.single_partition_of_fp32_groups:
            self._optimizer.optimizer.state[partition] = _zero_moments(partition, self._keys, num_updates)
        self._optimizer._hp_optimizer_states_linked = False
        self._optimizer._lazy_init_hp_params_optimizer_state()

    def read(self, parameter: Any, key: str | None) -> Tensor:
        """See ``ZeroState``."""
        return parameter.get_full_hp_param(key)

    def write(self, parameter: Any, key: str | None, value: Tensor) -> None:
        """See ``ZeroState``."""
        parameter.set_full_hp_param(value, key)
        if key is WEIGHT:
            parameter.data.copy_(value)


class Sliced:
    """Stage 3: every parameter is cut into equal slices, the last one padded."""

    def __init__(self, optimizer: Any, keys: tuple[str, ...]) -> None:
        self._optimizer, self._keys = optimizer, keys

    def reset(self, num_updates: int) -> None:
        """See ``ZeroState``."""
        for slices in self._optimizer.fp32_partitioned_groups_flat:
            self._optimizer.optimizer.state[slices] = _zero_moments(slices, self._keys, num_updates)

    def read(self, parameter: nn.Parameter, key: str | None) -> Tensor:
        """See ``ZeroState``."""
        return self._optimizer._fp32_state_allgather(parameter, self._slice(parameter, key))

    def write(self, parameter: Any, key: str | None, value: Tensor) -> None:
        """See ``ZeroState``."""
        mine = self._slice(parameter, key)
        rank = self._optimizer._get_param_partition_rank(parameter)
        flat = pad(value.flatten(), (0, mine.numel() * (rank + 1)))[mine.numel() * rank :][: mine.numel()]
        mine.copy_(flat)
        if key is not WEIGHT:
            return
        parameter.ds_tensor.data.copy_(flat)
        if parameter.data.numel() == value.numel():  # small ones are kept whole between steps
            parameter.data.copy_(value)

    def _slice(self, parameter: nn.Parameter, key: str | None) -> Tensor:
        found, _ = self._optimizer._get_fp32_opt_state_partition(
            parameter, release_swap_buffers=False, optim_state_key=key
        )
        return found.data


def _zero_moments(like: Tensor, keys: tuple[str, ...], num_updates: int) -> dict[str, Tensor]:
    """Create AdamW's state, which AdamW would otherwise create as zeros at the first update."""
    zeros = {key: torch.zeros_like(like, requires_grad=False) for key in keys}
    return {"step": torch.tensor(float(num_updates)), **zeros}
