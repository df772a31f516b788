"""A training worker's micro-batches: noised rows, tokenised and padded, prefetched in a thread.

This is the only prefetch between Ray Data and the training step.
"""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import pyarrow as pa

from mats_ray.config import RunConfig
from mats_ray.data.collate import Collator
from mats_ray.data.triplets import EMBEDDING, embedding_matrix
from mats_ray.models.mats import TrainBatch
from mats_ray.models.prompt import PromptTokenizer

T = TypeVar("T")
PREFETCHED_MICRO_BATCHES = 64
"""Number of micro-batches that wait for a worker: some megabytes, and seconds of training."""
POLL_SECONDS = 0.5
"""Time after which the thread notices that the prefetcher was closed."""
CLOSE_SECONDS = 10.0
"""A source that hangs longer is left in its thread, which does not keep the process alive."""


def micro_batches(
    rows: Iterable[pa.Table], prompts: PromptTokenizer, config: RunConfig
) -> Iterator[TrainBatch]:
    """Tokenise and pad each table of rows into a micro-batch."""
    collate = Collator(prompts, config.model.llm.max_text_tokens)
    for table in rows:
        instructions, answers, ids = (
            table.column(name).to_pylist() for name in ("instruction", "answer", "id")
        )
        yield collate(embedding_matrix(table.column(EMBEDDING)), instructions, answers, ids)


class Prefetcher(Generic[T]):
    """Iterates over a source in a thread that starts at once; items and their order are the source's.

    An exception of the source is raised where its next item would have come. The source must not draw from
    torch's global generator: dropout, in the main thread, does.

    Args:
        source: Any iterable, used in the thread only.
        depth: Largest number of items kept ready.
    """

    def __init__(self, source: Iterable[T], *, depth: int = PREFETCHED_MICRO_BATCHES) -> None:
        self._ready = queue.Queue[tuple[T] | BaseException | None](maxsize=depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(source,), name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item = self._ready.get()
        if isinstance(item, tuple):
            return item[0]
        self._ready.put(item)  # later calls end in the same way
        raise StopIteration if item is None else item

    def close(self) -> None:
        """End the thread, once its current call of the source has returned."""
        self._closed.set()
        self._thread.join(CLOSE_SECONDS)

    def _fill(self, source: Iterable[T]) -> None:
        end: BaseException | None = None
        try:
            for item in source:
                if not self._put((item,)):
                    return
        except BaseException as error:  # noqa: BLE001 (raised to the consumer, by __next__)
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
