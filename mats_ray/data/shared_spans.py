"""One reading of the stream for all training workers: each span is read once, each worker takes its share.

Workers train in step with each other, so they need the same spans at about the same time. Without Ray.
"""

import threading
from collections.abc import Sequence

import pyarrow as pa

from mats_ray.data.stream import SpanReader, spans_of

SPANS_HELD = 4
"""Spans from that of the slowest worker to that of the fastest, which waits: all that is in memory."""


class SharedSpans:
    """Reads spans for several workers, each of which takes its shares in order and in a thread of its own.

    An earlier span, of a call that is repeated, is read once more. So no row is lost with this object: a new
    one in its place goes on with the spans that are taken next.

    Args:
        reader: Reads the spans of its place.
        ranks: Workers that take shares.
    """

    def __init__(self, reader: SpanReader, ranks: Sequence[int]) -> None:
        self._reader, self._spans = reader, spans_of(reader.config, reader.place)
        self._newest = dict.fromkeys(ranks, -1)
        """Newest span that each worker took; -1 before the first one."""
        self._first = len(self._spans)
        self._held: dict[int, list[pa.Table]] = {}
        self._moved = threading.Condition()

    def take(self, index: int, rank: int) -> pa.Table:
        """Return a worker's share of a span; see ``SpanReader.shares``.

        Waits while the slowest worker is ``SPANS_HELD`` spans behind.

        Raises:
            DataError: The span cannot be read.
        """
        with self._moved:
            self._first = min(self._first, index)
            self._newest[rank] = max(self._newest[rank], index)
            self._moved.notify_all()
            self._moved.wait_for(lambda: index < self._slowest() + SPANS_HELD)
            for passed in [one for one in self._held if one < self._slowest()]:
                del self._held[passed]
            if index not in self._held:
                self._held[index] = self._reader.shares(self._spans[index])
            return self._held[index][rank]

    def _slowest(self) -> int:
        """Newest span of the slowest worker; one not seen yet is taken to be at the first span seen."""
        return min(self._first if newest < 0 else newest for newest in self._newest.values())
