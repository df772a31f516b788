"""What a batch job owes (every wanted file and prompt once) and what its output already holds.

Shapes: F files, P prompts, N rows of a table.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mats_ray.data.listing import AudioObject
from mats_ray.errors import DataError
from mats_ray.infer.parts import PartStore
from mats_ray.infer.rows import ERROR, Prompt, Respondent

RETRIED = frozenset({"read_failed"})
"""Errors of the storage, not of the file: the next run tries again."""

_COLUMNS = ["path", "task", "prompt", "etag", "model_id", "decoding", "status", "error_code", "error"]


class Ledger:
    """Rows wanted, rows there.

    Attributes:
        done_FP: (F, P) bool; pairs that are not wanted count as done.
        num_ok: Answered rows among them.
        errors: Error rows among them by code.
        first_error: Text of one of them.
    """

    def __init__(
        self,
        objects: Sequence[AudioObject],
        prompts: Sequence[Prompt],
        respondent: Respondent,
        *,
        wanted_FP: np.ndarray | None = None,
    ) -> None:
        self.objects, self.prompts, self.respondent = objects, prompts, respondent
        everything_FP = np.ones((len(objects), len(prompts)), dtype=bool)
        self.wanted_FP = everything_FP if wanted_FP is None else wanted_FP
        self.done_FP = ~self.wanted_FP
        self.num_ok, self.errors, self.first_error = 0, Counter[str](), ""
        self._file_of = {one.path: index for index, one in enumerate(objects)}
        self._prompt_of = {(p.task.value, p.instruction): index for index, p in enumerate(prompts)}

    def enter(self, table: pa.Table, *, retried: frozenset[str] = frozenset()) -> np.ndarray:
        """Count rows in and tell which to keep, (N,) bool.

        Kept are rows of other files and prompts, which are not this job's business, and one valid row of
        each wanted file and prompt. Rows of an earlier content of the file, of another model or decoding,
        and errors worth another try are not.
        """
        keep_N = np.ones(len(table), dtype=bool)
        for n, row in enumerate(table.select(_COLUMNS).to_pylist()):
            file, prompt = self._file_of.get(row["path"]), self._prompt_of.get((row["task"], row["prompt"]))
            if file is None or prompt is None or not self.wanted_FP[file, prompt]:
                continue
            keep_N[n] = (
                row["etag"] == self.objects[file].etag
                and row["model_id"] == self.respondent.model_id
                and row["decoding"] == self.respondent.decoding
                and row["error_code"] not in retried
                and not self.done_FP[file, prompt]
            )
            if keep_N[n]:
                self._count(row)
                self.done_FP[file, prompt] = True
        return keep_N

    def enter_all(self, store: PartStore) -> dict[str, np.ndarray]:
        """Count in every part of an output folder; tell which rows to keep of the parts that hold others."""
        keep = {name: self.enter(store.read(name), retried=RETRIED) for name in store.names()}
        return {name: keep_N for name, keep_N in keep.items() if not keep_N.all()}

    def check(self, store: PartStore) -> "Ledger":
        """Read the output again: every wanted row must be there once.

        Raises:
            DataError: Rows are missing or there twice.
        """
        found = Ledger(self.objects, self.prompts, self.respondent, wanted_FP=self.wanted_FP)
        surplus = sum(int((~found.enter(store.read(name))).sum()) for name in store.names())
        missing_F, _ = np.nonzero(~found.done_FP)
        if len(missing_F) or surplus:
            first = f", the first of {self.objects[missing_F[0]].path}" if len(missing_F) else ""
            raise DataError(
                f"{store.out}: {len(missing_F)} of {found.num_rows} rows are missing{first}; "
                f"{surplus} are there twice or of another run; run the job again"
            )
        return found

    @property
    def num_rows(self) -> int:
        """Rows wanted."""
        return int(self.wanted_FP.sum())

    def _count(self, row: dict[str, str]) -> None:
        if row["status"] == ERROR:
            self.errors[row["error_code"]] += 1
            self.first_error = self.first_error or row["error"]
        else:
            self.num_ok += 1
