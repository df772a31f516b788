"""Which rows a batch job must write, and which of them its output already holds.

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
from mats_ray.caption.prompts import PromptPlan
from mats_ray.caption.rows import ERROR, Provenance
from mats_ray.data.audio_files import AudioObject
from mats_ray.errors import DataError

RETRIED = frozenset({"read_failed", "changed"})
"""Codes of passing errors (storage trouble, a file being written): the next run retries these rows."""

NUM_FAILURES = 5
"""Number of files with errors that are named at the end of a job; all have their rows."""
NUM_EXAMPLES = 3
"""Number of files with errors that are kept for each code."""

_COLUMNS = ["path", "task", "prompt", "etag", "model_id", "decoding", "status", "error_code", "error"]
_COLUMNS += ["segment", "is_last_segment"]


class Ledger:
    """Wanted rows and found rows.

    Attributes:
        done_K: bool, pairs of file and prompt with all their rows.
        num_ok: Number of answered rows among them.
        errors: Number of error rows among them by code.
        first_error: Text of one of them.
        parts: Names of the part files that were scanned.
        first_failures: Path and code of the first ``NUM_FAILURES`` files among them.
        examples: Path and text of the first ``NUM_EXAMPLES`` errors of each code.
    """

    def __init__(self, objects: Sequence[AudioObject], plan: PromptPlan, provenance: Provenance) -> None:
        self.objects, self.plan, self.provenance = objects, plan, provenance
        self.done_K = np.zeros(len(plan.prompt_K), dtype=bool)
        self.num_ok, self.errors, self.first_error = 0, Counter[str](), ""
        self.first_failures, self.parts = dict[str, str](), list[str]()
        self.examples = dict[str, list[tuple[str, str]]]()
        self._file_of = {one.path: index for index, one in enumerate(objects)}
        self._prompt_of = {(p.task.value, p.instruction): index for index, p in enumerate(plan.prompts)}
        self._incomplete: dict[int, _PairRows] = {}

    def scan(self, store: PartStore, *, retried: frozenset[str] = RETRIED) -> dict[str, np.ndarray]:
        """Count the rows of every part file.

        Returns:
            By name of the parts with rows to be removed: bool (N,), which rows to keep. Kept are rows of
            files and prompts that this job does not want, and one valid and complete set of rows of each that
            it wants. Removed are rows of an earlier content of the file or of another provenance, errors to
            be retried, and windows of a file that lacks others.
        """
        self.parts = store.names()
        keep = {name: self._scan_part(name, store.read(name), retried) for name in self.parts}
        for pair_rows in self._incomplete.values():
            for name, n in pair_rows.places:
                keep[name][n] = False
        self._incomplete.clear()
        return {name: keep_N for name, keep_N in keep.items() if not keep_N.all()}

    def check(self, store: PartStore) -> "Ledger":
        """Read the output again: every wanted row must be there once.

        Raises:
            DataError: Rows are missing or there twice.
        """
        found = Ledger(self.objects, self.plan, self.provenance)
        surplus = sum(int((~keep_N).sum()) for keep_N in found.scan(store, retried=frozenset()).values())
        missing_K = np.flatnonzero(~found.done_K)
        if len(missing_K) or surplus:
            first = ""
            if len(missing_K):
                first = f", the first of {self._path_of(int(missing_K[0]))}"
            raise DataError(
                f"{store.out}: {len(missing_K)} of {len(found.done_K)} rows are missing{first}; "
                f"{surplus} are there twice or of another run; run the job again"
            )
        return found

    @property
    def num_rows(self) -> int:
        """Number of rows found of pairs that are done."""
        return self.num_ok + self.errors.total()

    def files_done(self) -> np.ndarray:
        """Return which files have all their rows: (F,) bool."""
        return np.logical_and.reduceat(self.done_K, self.plan.first_F[:-1])

    def missing_prompts(self, file: int) -> list[int]:
        """Return the indices of the prompts whose rows a file lacks."""
        pairs = slice(self.plan.first_F[file], self.plan.first_F[file + 1])
        return self.plan.prompt_K[pairs][~self.done_K[pairs]].tolist()

    def _scan_part(self, name: str, table: pa.Table, retried: frozenset[str]) -> np.ndarray:
        keep_N = np.ones(len(table), dtype=bool)
        for n, row in enumerate(table.select(_COLUMNS).to_pylist()):
            pair = self._pair_of(row)
            if pair is not None:
                current = self._is_current(row) and row["error_code"] not in retried
                keep_N[n] = current and not self.done_K[pair] and self._add(pair, row, (name, n))
        return keep_N

    def _pair_of(self, row: dict[str, Any]) -> int | None:
        file, prompt = self._file_of.get(row["path"]), self._prompt_of.get((row["task"], row["prompt"]))
        return None if file is None or prompt is None else self.plan.pair(file, prompt)

    def _is_current(self, row: dict[str, Any]) -> bool:
        return (
            row["etag"] == self.objects[self._file_of[row["path"]]].etag
            and row["model_id"] == self.provenance.model_id
            and row["decoding"] == self.provenance.decoding
        )

    def _add(self, pair: int, row: dict[str, Any], place: tuple[str, int]) -> bool:
        """Count a row, if its window is not there already; the last one missing completes the pair."""
        found = self._incomplete.setdefault(pair, _PairRows())
        if row["segment"] in found.segments:
            return False
        found.segments.add(row["segment"])
        found.places.append(place)
        found.num_all = row["segment"] + 1 if row["is_last_segment"] else found.num_all
        if row["status"] == ERROR:
            found.errors.append((row["error_code"], row["error"]))
        if len(found.segments) == found.num_all:
            self._complete(pair)
        return True

    def _complete(self, pair: int) -> None:
        found = self._incomplete.pop(pair)
        self.done_K[pair] = True
        self.num_ok += len(found.segments) - len(found.errors)
        self.errors.update(code for code, _ in found.errors)
        if found.errors and not self.first_error:
            self.first_error = found.errors[0][1]
        if found.errors and len(self.first_failures) < NUM_FAILURES:
            self.first_failures.setdefault(self._path_of(pair), found.errors[0][0])
        for code, text in found.errors:
            if len(examples := self.examples.setdefault(code, [])) < NUM_EXAMPLES:
                examples.append((self._path_of(pair), text))

    def _path_of(self, pair: int) -> str:
        return self.objects[int(np.searchsorted(self.plan.first_F, pair, side="right")) - 1].path


@dataclass(slots=True)
class _PairRows:
    """Rows found so far of a pair of file and prompt."""

    segments: set[int] = field(default_factory=set[int])
    num_all: int | None = None
    """Number of its windows, known with the last one."""
    places: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """Part file and index of each row."""
    errors: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
