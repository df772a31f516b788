"""Starting a process that computes: importing torch and transformers, loading weights."""

import functools
import gc
from collections.abc import Callable
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
