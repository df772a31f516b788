"""What a training step needs is made while the one before is computed: an iterator with its own thread."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.5
"""How soon the thread notices that nobody wants any more."""
CLOSE_SECONDS = 10.0
"""A source that hangs is left to hang in its thread, which does not keep a process alive."""


class Ahead(Generic[T]):
    """Iterates over a source in a thread that begins at once; items and their order are the source's.

    What the source raises comes out where its next item would have. The source must not draw from torch's
    global generator: dropout, in the main thread, does.

    Args:
        source: Any iterable, used in the thread only.
        depth: Items that are kept ready at most.
    """

    def __init__(self, source: Iterable[T], *, depth: int) -> None:
        self._ready = queue.Queue[tuple[T] | BaseException | None](maxsize=depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(source,), name="ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item = self._ready.get()
        if isinstance(item, tuple):
            return item[0]
        self._ready.put(item)  # the end stays the end
        raise StopIteration if item is None else item

    def close(self) -> None:
        """End the thread, once it has what it was asking its source for."""
        self._closed.set()
        self._thread.join(CLOSE_SECONDS)

    def _fill(self, source: Iterable[T]) -> None:
        end: BaseException | None = None
        try:
            for item in source:
                if not self._put((item,)):
                    return
        except BaseException as error:  # noqa: BLE001 (it belongs to whoever asks for the next item)
            end = error
        self._put(end)

    def _put(self, item: tuple[T] | BaseException | None) -> bool:
        while not self._closed.is_set():
            try:
                self._ready.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
