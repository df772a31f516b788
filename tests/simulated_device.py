"""A device without hardware: tensors that lie elsewhere, computed by the CPU, every crossing counted.

As on a card, an operation on tensors of both sides is an error (a number is none), a copy to the host and
whatever depends on a value waits for the device, and so does a plain copy to it.
"""

import traceback
from collections import Counter
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "meta"
"""The one device besides the CPU that every build of PyTorch knows; its own tensors have no values."""
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
SCALARS = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
SHAPES = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten.unique_dim.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
}
"""Operations whose result's shape depends on values."""


class _Elsewhere(torch.Tensor):
    """A tensor of the device; ``inner`` holds its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME),
        )

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside of the simulation")


class SimulatedDevice(TorchDispatchMode):
    """Inside, ``NAME`` is a device; not in inference mode, whose tensors cannot be of another kind.

    Attributes:
        waits: How often the host has waited for the device, by the operation it waited in, and its line.
        written: Number of copies to the device that nothing waits for.
    """

    def __init__(self):
        super().__init__()
        self.waits, self.written = Counter(), 0

    @property
    def num_waits(self):
        return self.waits.total()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        flat = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
        here = [one for one in flat if not isinstance(one, _Elsewhere)]
        is_elsewhere = len(here) < len(flat)
        target = kwargs.get("device")
        to_device = is_elsewhere if target is None else torch.device(target) == torch.device(NAME)
        self._count(func, args, kwargs, flat, is_elsewhere=is_elsewhere, to_device=to_device)
        if is_elsewhere and func not in COPIES and any(one.dim() and one.numel() for one in here):
            raise AssertionError(f"{func} has a tensor of the host among those of the device")
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        found = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        written = [
            value
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        if written:  # in place
            return written[0]
        wrap = to_device and (is_elsewhere or target is not None)
        return tree_map(_elsewhere, found) if wrap else found

    def _count(self, func, args, kwargs, flat, *, is_elsewhere, to_device):
        if func is aten.copy_.default:
            source, destination = isinstance(args[1], _Elsewhere), isinstance(args[0], _Elsewhere)
            is_copy, non_blocking = source != destination, args[2] if len(args) > 2 else False
        else:
            source, destination = is_elsewhere, to_device
            is_copy = func is aten._to_copy.default and source != destination
            non_blocking = kwargs.get("non_blocking", False)
        if is_copy and destination and non_blocking:
            self.written += 1
        elif is_copy or (is_elsewhere and (func in SCALARS | SHAPES or _is_by_mask(func, flat))):
            self.waits[f"{func} in {_place()}"] += 1


def _place():
    """Name the line, outside of PyTorch, that an operation comes from."""
    frames = traceback.extract_stack()
    own = [one for one in frames if "/torch/" not in one.filename and one.filename != __file__]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"


def _elsewhere(one):
    return _Elsewhere(one) if isinstance(one, torch.Tensor) else one


def _inner(one):
    """Return the values; ``torch.tensor([], device=...)``, which has none, is made without us noticing."""
    if isinstance(one, _Elsewhere):
        return one.inner
    is_empty = isinstance(one, torch.Tensor) and one.device == torch.device(NAME)
    return torch.empty(one.shape, dtype=one.dtype) if is_empty else one


def _is_by_mask(func, tensors):
    is_index = func in {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
    return is_index and any(one.dtype == torch.bool for one in tensors[1:])
