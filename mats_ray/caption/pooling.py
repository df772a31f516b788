"""One embedding of many windows: the mean over all windows of a file, which come batch by batch.

Batches of one file come in any order, at several processes, and twice where a process died.

Shapes: C CLAP dim.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the pool's own process needs no more than numpy
    from mats_ray.caption.rows import RowError


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class WindowSum:
    """Sum over the embeddings of consecutive windows of one file, each times the seconds it covers."""

    path: str
    first: int
    """Index of the first window."""
    stop: int
    """Index behind the last window."""
    is_last: bool
    """Whether no window follows."""
    total_C: np.ndarray
    """float64."""
    covered_s: float
    end_s: float | None
    """End of the last window; None where it could not be decoded."""
    error: "RowError | None"
    """The first error, for which the file has no embedding."""

    @property
    def is_whole(self) -> bool:
        """Whether these are all windows of the file."""
        return self.first == 0 and self.is_last

    def followed_by(self, other: "WindowSum") -> "WindowSum":
        """Return the sum over these windows and the next ones."""
        return WindowSum(
            path=self.path,
            first=self.first,
            stop=other.stop,
            is_last=other.is_last,
            total_C=self.total_C + other.total_C,
            covered_s=self.covered_s + other.covered_s,
            end_s=other.end_s,
            error=self.error or other.error,
        )

    def mean(self, *, normalize: bool) -> np.ndarray:
        """Return the mean embedding, (C,) float32, of length 1 if normalised."""
        scale = np.linalg.norm(self.total_C) if normalize else self.covered_s
        return (self.total_C / scale).astype(np.float32)


class WindowPool:
    """Keeps the sums of files of which windows are missing."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    def add(self, windows: WindowSum) -> WindowSum | None:
        """Keep a sum.

        Returns:
            The sum over all windows of the file, to the call that adds the last missing ones, and again if
            that call is repeated; to no other call, so that a file gets its rows once.
        """
        file = self._files.setdefault(windows.path, _File())
        file.sums[windows.first] = windows
        whole = file.whole()
        if whole is None:
            return None
        if file.completed_by is None:
            file.completed_by = windows.first
        return whole if file.completed_by == windows.first else None

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files whose rows have arrived."""
        for path in paths:
            self._files.pop(path, None)


@dataclass(slots=True)
class _File:
    """Sums of one file by the index of their first window."""

    sums: dict[int, WindowSum] = field(default_factory=dict[int, WindowSum])
    completed_by: int | None = None

    def whole(self) -> WindowSum | None:
        """Return the sum over all windows, in their order, unless some are missing."""
        parts = list(self._consecutive())
        if not parts or not parts[-1].is_last:
            return None
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.followed_by(part)
        return whole

    def _consecutive(self) -> Iterator[WindowSum]:
        part = self.sums.get(0)
        while part is not None:
            yield part
            part = None if part.is_last else self.sums.get(part.stop)
