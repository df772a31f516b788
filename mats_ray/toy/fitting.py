"""Shared by the trainings of the world's two small models, which run side by side, a thread and a core each.

Both use Muon for the layers' matrices and AdamW for all else: so small a model then needs far fewer steps.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mats_ray.config.train import ScheduleConfig
from mats_ray.train.optim import learning_rate

Name = TypeVar("Name")
Item = TypeVar("Item")
Optimizers = Sequence[tuple[torch.optim.Optimizer, float]]
"""Each with its highest learning rate."""
_generator_lock = threading.Lock()
_stopped = threading.Event()


@contextlib.contextmanager
def first_weights(seed: int) -> Iterator[None]:
    """Modules made inside draw their weights from a seed; torch's global generator is restored."""
    with _generator_lock, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def side_by_side(works: Mapping[Name, Callable[[], None]]) -> Iterator[Name]:
    """Run trainings in a thread each, and yield the name of each that is finished.

    Operations use one core meanwhile: with tensors this small a second core saves a tenth.
    When one fails, or this process is interrupted, the others end with their next update.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(max(len(works), 1)) as threads:
            try:
                running = {threads.submit(work): name for name, work in works.items()}
                for done in as_completed(running):
                    done.result()
                    yield running[done]
            except BaseException:
                _stopped.set()
                raise
    finally:
        torch.set_num_threads(count)
        _stopped.clear()


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items in their order; while one is used, the next is made in a thread of its own."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(next, iterator, None)
        while (item := ahead.result()) is not None:
            ahead = thread.submit(next, iterator, None)
            yield item


class Muon(torch.optim.Muon):
    """Torch's Muon with the Newton-Schulz iteration in float32.

    Torch rounds to bfloat16, which a CPU without AVX512-BF16 or AMX multiplies twenty times slower than
    float32 (benchmarks/demo.md).
    """

    def step(self, closure: Any = None) -> Any:
        """Update the matrices from their gradients."""
        with _Float32ForBFloat16():
            return super().step(closure)


class _Float32ForBFloat16(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return (Tensor.float if func is Tensor.bfloat16 else func)(*args, **(kwargs or {}))


def optimizers(named: Iterable[tuple[str, nn.Parameter]], *, matrices: float, others: float) -> Optimizers:
    """Make both.

    Args:
        named: All parameters; embedding tables are recognised by their name.
        matrices: Highest learning rate of Muon.
        others: Highest learning rate of AdamW, for embeddings, convolutions, biases and norms.
    """
    named = list(named)
    is_matrix = {name: weight.ndim == 2 and "embed" not in name for name, weight in named}
    return (
        (
            Muon([w for name, w in named if is_matrix[name]], weight_decay=0.1, momentum=0.9),
            matrices,
        ),
        (
            torch.optim.AdamW(
                [w for name, w in named if not is_matrix[name]],
                weight_decay=0.01,
                betas=(0.9, 0.98),
                fused=True,
            ),
            others,
        ),
    )


def update(every: Optimizers, *, step: int, num_steps: int, schedule: ScheduleConfig) -> None:
    """Update all weights from their gradients, each optimizer at its rate of this step."""
    if _stopped.is_set():
        raise RuntimeError("stopped, as the training beside this one was")
    for optimizer, peak in every:
        optimizer.param_groups[0]["lr"] = learning_rate(step, lr=peak, num_steps=num_steps, schedule=schedule)
        optimizer.step()
