"""From ids that keep coming to text that keeps growing: what has been said is never taken back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mats_ray.types import Answer

_BROKEN = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of an answer."""

    text: str
    answer: Answer | None = None
    """With the last piece: the whole."""


class Spoken:
    """One answer's text so far.

    Args:
        decode: Ids to text, surrounding white space cut off.
        stop: Texts that end the answer; it does not hold them.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], *, stop: Sequence[str] = ()) -> None:
        self._decode, self._stop = decode, tuple(stop)
        self._said = ""
        self._num_ids = 0

    def hear(self, ids: Sequence[int]) -> Piece | None:
        """Take all ids so far; returns what can be said now, if anything.

        Held back are the half of a character, white space that may be the end, and what may become a stop
        text. The piece has the answer if a stop text ended it.
        """
        if len(ids) == self._num_ids:
            return None
        self._num_ids = len(ids)
        text = self._decode(ids)
        if (end := self._stopped_at(text)) is not None:
            return self._last(text[:end], ids, "stop")
        sure = self._without_beginning_of_stop(text.rstrip(_BROKEN).rstrip())
        piece = sure[len(self._said) :] if sure.startswith(self._said) else ""
        self._said += piece
        return Piece(text=piece) if piece else None

    def finish(self, ids: Sequence[int], *, ended: bool) -> Piece:
        """Say the rest."""
        text = self._decode(ids)
        if (end := self._stopped_at(text)) is not None:
            return self._last(text[:end], ids, "stop")
        return self._last(text, ids, "stop" if ended else "length")

    def _last(self, text: str, ids: Sequence[int], reason: str) -> Piece:
        text = text.rstrip()
        answer = Answer(text=text, num_tokens=len(ids), finish_reason=reason)
        return Piece(text=text[len(self._said) :], answer=answer)

    def _stopped_at(self, text: str) -> int | None:
        return min((at for stop in self._stop if (at := text.find(stop)) >= 0), default=None)

    def _without_beginning_of_stop(self, text: str) -> str:
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
