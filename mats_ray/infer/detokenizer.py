"""Ids of a growing answer to text, step by step; emitted text is never changed."""

from collections.abc import Callable, Sequence

from mats_ray.infer.engine import TextDelta
from mats_ray.types import Answer

_BROKEN = "\N{REPLACEMENT CHARACTER}"


class IncrementalDetokenizer:
    """Detokenizes one answer.

    Args:
        decode: Ids to text, without surrounding white space.
        stop: Texts that end the answer and are not part of it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], *, stop: Sequence[str] = ()) -> None:
        self._decode, self._stop = decode, tuple(stop)
        self._emitted = ""
        self._num_ids = 0

    def push(self, ids: Sequence[int]) -> TextDelta | None:
        """Detokenize all ids so far; returns the text that is new and certain, None if there is none.

        Incomplete characters, white space at the end and a possible start of a stop text are held back. The
        delta has the answer if a stop text ended it.
        """
        if len(ids) == self._num_ids:
            return None
        self._num_ids = len(ids)
        text = self._decode(ids)
        if (end := self._stop_position(text)) is not None:
            return self._last(text[:end], ids, "stop")
        certain = self._without_start_of_stop(text.rstrip(_BROKEN).rstrip())
        delta = certain[len(self._emitted) :] if certain.startswith(self._emitted) else ""
        self._emitted += delta
        return TextDelta(text=delta) if delta else None

    def finish(self, ids: Sequence[int], *, ended: bool) -> TextDelta:
        """Return the rest of the text with the whole answer."""
        text = self._decode(ids)
        if (end := self._stop_position(text)) is not None:
            return self._last(text[:end], ids, "stop")
        return self._last(text, ids, "stop" if ended else "length")

    def _last(self, text: str, ids: Sequence[int], reason: str) -> TextDelta:
        text = text.rstrip()
        answer = Answer(text=text, num_tokens=len(ids), finish_reason=reason)
        return TextDelta(text=text[len(self._emitted) :], answer=answer)

    def _stop_position(self, text: str) -> int | None:
        return min((at for stop in self._stop if (at := text.find(stop)) >= 0), default=None)

    def _without_start_of_stop(self, text: str) -> str:
        longest = max(
            (
                size
                for stop in self._stop
                for size in range(1, min(len(stop), len(text)) + 1)
                if text.endswith(stop[:size])
            ),
            default=0,
        )
        return text[: len(text) - longest].rstrip()
