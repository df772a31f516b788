"""What a batch job owes (every wanted file and prompt once) and what its output already holds.

A file cut into windows has a row per window and prompt; they count as done together or not at all.
Shapes: F files, K pairs of file and prompt, N rows of a table.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mats_ray.caption.output import PartStore
from mats_ray.caption.prompts import Asked
from mats_ray.caption.rows import ERROR, Respondent
from mats_ray.data.listing import AudioObject
from mats_ray.errors import DataError

RETRIED = frozenset({"read_failed", "changed"})
"""Errors of the storage or the moment, not of the file: the next run tries again."""

_COLUMNS = ["path", "task", "prompt", "etag", "model_id", "decoding", "status", "error_code", "error"]
_COLUMNS += ["segment", "is_last_segment"]


class Ledger:
    """Rows wanted, rows there.

    Attributes:
        done_K: bool, pairs of file and prompt with all their rows.
        num_ok: Answered rows among them.
        errors: Error rows among them by code.
        first_error: Text of one of them.
    """

    def __init__(self, objects: Sequence[AudioObject], asked: Asked, respondent: Respondent) -> None:
        self.objects, self.asked, self.respondent = objects, asked, respondent
        self.done_K = np.zeros(len(asked.prompt_K), dtype=bool)
        self.num_ok, self.errors, self.first_error = 0, Counter[str](), ""
        self._file_of = {one.path: index for index, one in enumerate(objects)}
        self._prompt_of = {(p.task.value, p.instruction): index for index, p in enumerate(asked.prompts)}
        self._windows: dict[int, _Windows] = {}

    def enter_all(self, store: PartStore, *, retried: frozenset[str] = RETRIED) -> dict[str, np.ndarray]:
        """Count in every part of an output folder; tell which rows to keep of the parts that hold others.

        Kept are rows of other files and prompts, which are not this job's business, and one valid and whole
        set of rows of each wanted file and prompt. Rows of an earlier content of the file, of another model
        or decoding, errors worth another try, and windows of a file whose others are missing are not.
        """
        keep = {name: self._enter(name, store.read(name), retried) for name in store.names()}
        for windows in self._windows.values():
            for name, n in windows.places:
                keep[name][n] = False
        self._windows.clear()
        return {name: keep_N for name, keep_N in keep.items() if not keep_N.all()}

    def check(self, store: PartStore) -> "Ledger":
        """Read the output again: every wanted row must be there once.

        Raises:
            DataError: Rows are missing or there twice.
        """
        found = Ledger(self.objects, self.asked, self.respondent)
        surplus = sum(int((~keep_N).sum()) for keep_N in found.enter_all(store, retried=frozenset()).values())
        missing_K = np.flatnonzero(~found.done_K)
        if len(missing_K) or surplus:
            first = ""
            if len(missing_K):
                file = int(np.searchsorted(self.asked.first_F, missing_K[0], side="right")) - 1
                first = f", the first of {self.objects[file].path}"
            raise DataError(
                f"{store.out}: {len(missing_K)} of {len(found.done_K)} rows are missing{first}; "
                f"{surplus} are there twice or of another run; run the job again"
            )
        return found

    @property
    def num_rows(self) -> int:
        """Rows there, of pairs that are done."""
        return self.num_ok + self.errors.total()

    def files_done(self) -> np.ndarray:
        """Say which files owe no row: (F,) bool."""
        return np.logical_and.reduceat(self.done_K, self.asked.first_F[:-1])

    def owed(self, file: int) -> list[int]:
        """Indices of the prompts a file still owes an answer to."""
        pairs = slice(self.asked.first_F[file], self.asked.first_F[file + 1])
        return self.asked.prompt_K[pairs][~self.done_K[pairs]].tolist()

    def _enter(self, name: str, table: pa.Table, retried: frozenset[str]) -> np.ndarray:
        keep_N = np.ones(len(table), dtype=bool)
        for n, row in enumerate(table.select(_COLUMNS).to_pylist()):
            pair = self._pair_of(row)
            if pair is not None:
                current = self._is_current(row) and row["error_code"] not in retried
                keep_N[n] = current and not self.done_K[pair] and self._took(pair, row, (name, n))
        return keep_N

    def _pair_of(self, row: dict[str, Any]) -> int | None:
        file, prompt = self._file_of.get(row["path"]), self._prompt_of.get((row["task"], row["prompt"]))
        return None if file is None or prompt is None else self.asked.pair(file, prompt)

    def _is_current(self, row: dict[str, Any]) -> bool:
        return (
            row["etag"] == self.objects[self._file_of[row["path"]]].etag
            and row["model_id"] == self.respondent.model_id
            and row["decoding"] == self.respondent.decoding
        )

    def _took(self, pair: int, row: dict[str, Any], place: tuple[str, int]) -> bool:
        """Take a row unless its window is there already; with the last one missing the pair is done."""
        windows = self._windows.setdefault(pair, _Windows())
        if row["segment"] in windows.seen:
            return False
        windows.seen.add(row["segment"])
        windows.places.append(place)
        windows.num_all = row["segment"] + 1 if row["is_last_segment"] else windows.num_all
        if row["status"] == ERROR:
            windows.errors.append((row["error_code"], row["error"]))
        if len(windows.seen) == windows.num_all:
            self._close(pair)
        return True

    def _close(self, pair: int) -> None:
        windows = self._windows.pop(pair)
        self.done_K[pair] = True
        self.num_ok += len(windows.seen) - len(windows.errors)
        self.errors.update(code for code, _ in windows.errors)
        if windows.errors and not self.first_error:
            self.first_error = windows.errors[0][1]


@dataclass(slots=True)
class _Windows:
    """Rows found of a pair that is not whole yet."""

    seen: set[int] = field(default_factory=set[int])
    num_all: int | None = None
    """Known with the last one."""
    places: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    errors: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
