"""Starting a process that computes: importing torch and transformers, loading weights."""

import functools
import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def without_garbage_collection(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that imports libraries and loads a model: it creates objects and no garbage.

    Of 600,000 objects nearly all stay, but the collector searches them again and again, an eighth of the
    time. Those that are there afterwards are not searched any more.
    """

    @functools.wraps(function)
    def load(*args: P.args, **kwargs: P.kwargs) -> T:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            gc.freeze()
            if was_enabled:
                gc.enable()

    return load


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Load, wrap or save a model without transformers' bars over its tensors and a warning meant for peft.

    Afterwards the process's settings are as they were; bars of downloads and other warnings are shown.
    """
    from transformers.utils.logging import EmptyTqdm, set_tqdm_hook

    before = set_tqdm_hook(lambda _, args, kwargs: EmptyTqdm(*args, **kwargs))
    try:
        with warnings.catch_warnings():
            # peft uses the old name whenever it wraps a model
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            yield
    finally:
        set_tqdm_hook(before)
