"""Which rows a batch job must write, and which of them its output already holds.

Files are compared with the output block by block, by their paths, so that neither has to be in memory. A file
cut into windows has a row per window and prompt; they count as done together or not at all. Shapes: F files
of a block, K pairs of file and prompt, N rows of the output.
"""

# pyarrow.compute makes its functions when it is imported
# pyright: reportAttributeAccessIssue=false

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mats_ray.caption.output import FoundRows, PairKey
from mats_ray.caption.prompts import PromptPlan
from mats_ray.caption.rows import ERROR, Prompt, Provenance
from mats_ray.errors import DataError

RETRIED = frozenset({"read_failed", "changed"})
"""Codes of passing errors (storage trouble, a file being written): the next run retries these rows."""

NUM_FAILURES = 5
"""Number of files with errors that are named at the end of a job; all have their rows."""
NUM_EXAMPLES = 3
"""Number of files with errors that are kept for each code."""

COLUMNS = ["path", "task", "prompt", "etag", "model_id", "decoding", "status", "error_code", "error"]
COLUMNS += ["segment", "is_last_segment"]
"""Columns that are read of the output."""


@dataclass(slots=True)
class Outcomes:
    """Number of rows by outcome."""

    num_ok: int = 0
    """Answered rows."""
    errors: Counter[str] = field(default_factory=Counter[str])
    """Error rows by code."""
    first_error: str = ""
    """Text of one of them."""
    first_failures: dict[str, str] = field(default_factory=dict[str, str])
    """Code of the first ``NUM_FAILURES`` files with an error, by path."""
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict[str, list[tuple[str, str]]])
    """Path and text of the first ``NUM_EXAMPLES`` errors of each code."""

    @property
    def num_rows(self) -> int:
        """Number of all rows."""
        return self.num_ok + self.errors.total()

    def plus(self, other: "Outcomes") -> "Outcomes":
        """Return the sum of both."""
        both = {
            code: [*self.examples.get(code, ()), *other.examples.get(code, ())]
            for code in (self.errors + other.errors)
        }
        failures = [*self.first_failures.items(), *other.first_failures.items()]
        return Outcomes(
            num_ok=self.num_ok + other.num_ok,
            errors=self.errors + other.errors,
            first_error=self.first_error or other.first_error,
            first_failures=dict(failures[:NUM_FAILURES]),
            examples={code: found[:NUM_EXAMPLES] for code, found in both.items()},
        )

    def add(self, rows: pa.Table) -> None:
        """Count rows with the columns path, status, error_code and error."""
        is_error_N = pc.equal(rows["status"], ERROR)
        self.num_ok += len(rows) - (pc.sum(is_error_N).as_py() or 0)
        failed = rows.select(["path", "error_code", "error"]).filter(is_error_N)
        for path, code, text in zip(*(failed[name].to_pylist() for name in failed.column_names), strict=True):
            self.errors[code] += 1
            self.first_error = self.first_error or text
            if len(self.first_failures) < NUM_FAILURES:
                self.first_failures.setdefault(path, code)
            if len(examples := self.examples.setdefault(code, [])) < NUM_EXAMPLES:
                examples.append((path, text))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the output holds of a block."""

    done_K: np.ndarray
    """bool: pairs with all their rows."""
    kept: Sequence[FoundRows]
    """The rows of these pairs, each once."""
    surplus: Sequence[tuple[str, np.ndarray]]
    """By part, places of other rows of these pairs: rows that are there twice, or out of date."""
    stale: dict[PairKey, list[str]]
    """By pair, the parts with rows of pairs that are not done: of an earlier content of the file, of another
    provenance, errors to be retried, or windows of a file that lacks others. To be removed when they are
    replaced."""
    num_stale: int
    """Number of these rows."""


def compare(
    files: pa.Table,
    plan: PromptPlan,
    provenance: Provenance,
    found: Iterable[FoundRows],
    *,
    retried: frozenset[str] = RETRIED,
) -> Comparison:
    """Compare the files of a block with the rows of the output that have their paths.

    Rows of prompts that the files do not have are not looked at.

    Args:
        files: (F,) ``s3_pages.SCHEMA``.
        plan: Their prompts.
        provenance: Of rows that count.
        found: Rows of these files by part, with ``COLUMNS``.
        retried: Codes of errors that do not count.
    """
    parts, done_K = list(found), np.zeros(len(plan.prompt_K), dtype=bool)
    if not parts:
        return Comparison(done_K=done_K, kept=(), surplus=(), stale={}, num_stale=0)
    table = pa.concat_tables([one.table for one in parts])
    part_N = np.repeat(np.arange(len(parts)), [len(one.table) for one in parts])
    file_N = _index_in(table["path"], files["path"])
    pair_N = _pairs(table, file_N, plan)
    current_N = _current(table, files["etag"].take(pa.array(file_N)), provenance, retried)
    keep_N, done = _complete(table, np.where(current_N, pair_N, -1))
    done_K[done] = True
    other_N = (pair_N >= 0) & ~keep_N
    surplus_N = other_N & done_K[pair_N]
    stale_rows = np.flatnonzero(other_N & ~surplus_N)
    return Comparison(
        done_K=done_K,
        kept=list(_split(parts, table, part_N, keep_N)),
        surplus=[(one.part, one.row_N) for one in _split(parts, table, part_N, surplus_N)],
        stale=_parts_by_pair(parts, table, part_N, stale_rows),
        num_stale=len(stale_rows),
    )


def _pairs(table: pa.Table, file_N: np.ndarray, plan: PromptPlan) -> np.ndarray:
    """Return the pair of each row, (N,) int64; -1: of none."""
    texts = [_prompt_text(prompt) for prompt in plan.prompts]
    prompt_N = _index_in(pc.binary_join_element_wise(table["task"], table["prompt"], "\0"), pa.array(texts))
    # pairs are sorted by file; each is found by its number among all pairs that could be
    code_K = plan.files() * len(plan.prompts) + plan.prompt_K
    order_K = np.argsort(code_K, kind="stable")
    code_N = file_N * len(plan.prompts) + prompt_N
    at_N = np.minimum(np.searchsorted(code_K, code_N, sorter=order_K), len(code_K) - 1)
    pair_N = order_K[at_N]
    is_pair_N = (prompt_N >= 0) & (code_K[pair_N] == code_N)
    return np.where(is_pair_N, pair_N, -1)


def _prompt_text(prompt: Prompt) -> str:
    return f"{prompt.task.value}\0{prompt.instruction}"


def _current(
    table: pa.Table, etag_N: pa.ChunkedArray, provenance: Provenance, retried: frozenset[str]
) -> np.ndarray:
    """Return which rows are of the files' present ETags and of the provenance, and no error to be retried."""
    same = pc.equal(table["etag"], etag_N)
    same = pc.and_(same, pc.equal(table["model_id"], provenance.model_id))
    same = pc.and_(same, pc.equal(table["decoding"], provenance.decoding))
    is_retried = pc.is_in(table["error_code"], value_set=pa.array(sorted(retried), pa.string()))
    return pc.and_(same, pc.invert(is_retried)).to_numpy()


def _complete(table: pa.Table, pair_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the pairs with a row for every window.

    Args:
        table: The rows.
        pair_N: Their pairs; -1: does not count.

    Returns:
        bool (N,), one row for each window of these pairs, and the pairs.
    """
    segment_N = table["segment"].to_numpy().astype(np.int64)
    rows = np.flatnonzero(pair_N >= 0)
    key = pair_N[rows] * (int(segment_N.max(initial=0)) + 1) + segment_N[rows]
    rows = rows[np.unique(key, return_index=True)[1]]  # the first of each window, sorted by pair and window
    pairs, first = np.unique(pair_N[rows], return_index=True)
    keep_N = np.zeros(len(table), dtype=bool)
    if not len(pairs):
        return keep_N, pairs
    is_last = table["is_last_segment"].to_numpy()[rows]
    segment, group = segment_N[rows], np.repeat(np.arange(len(pairs)), np.diff([*first, len(rows)]))
    none = np.iinfo(np.int64).max
    last = np.minimum.reduceat(np.where(is_last, segment, none), first)
    inside = segment <= last[group]
    is_whole = np.add.reduceat(inside.astype(np.int64), first) == last + (last < none)
    keep_N[rows[inside & is_whole[group]]] = True
    return keep_N, pairs[is_whole]


def _parts_by_pair(
    parts: Sequence[FoundRows], table: pa.Table, part_N: np.ndarray, rows: np.ndarray
) -> dict[PairKey, list[str]]:
    """Return the parts that some of the rows are in, by the rows' pairs of file and prompt."""
    some = table.select(["path", "task", "prompt"]).take(pa.array(rows))
    columns, found = (some[name].to_pylist() for name in some.column_names), dict[PairKey, list[str]]()
    for *key, part in dict.fromkeys(zip(*columns, part_N[rows].tolist(), strict=True)):
        found.setdefault(tuple(key), []).append(parts[part].part)
    return found


def _split(
    parts: Sequence[FoundRows], table: pa.Table, part_N: np.ndarray, mask_N: np.ndarray
) -> Iterator[FoundRows]:
    """Yield some of the rows, part by part."""
    row_N = np.concatenate([one.row_N for one in parts])
    for index, one in enumerate(parts):
        rows = np.flatnonzero(mask_N & (part_N == index))
        if len(rows):
            yield FoundRows(part=one.part, row_N=row_N[rows], table=table.take(pa.array(rows)))


def _index_in(values: pa.ChunkedArray, among: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return the index of each value, (N,) int64; -1: it is not there."""
    value_set = among.combine_chunks() if isinstance(among, pa.ChunkedArray) else among
    return pc.fill_null(pc.index_in(values, value_set=value_set), -1).to_numpy().astype(np.int64)


class InFlight:
    """Files that are being answered: every row of theirs is taken once. Used by several threads."""

    def __init__(self) -> None:
        self._files = dict[str, dict[tuple[str, str], _Pair]]()
        self._changed = threading.Condition()

    def add(self, path: str, prompts: Sequence[Prompt], *, batch: int) -> None:
        """Add a file.

        Args:
            path: Of the file.
            prompts: To be answered.
            batch: Number of the batch it is sent with.
        """
        with self._changed:
            pairs = {(prompt.task.value, prompt.instruction): _Pair(batch) for prompt in prompts}
            self._files[path] = pairs

    def wait_for(self, path: str) -> None:
        """Wait until a file is not there any more: a file is in one batch at a time."""
        with self._changed:
            self._changed.wait_for(lambda: path not in self._files)

    def clear(self) -> None:
        """Forget all files: their job has failed."""
        with self._changed:
            self._files.clear()
            self._changed.notify_all()

    def accept(self, rows: pa.Table) -> "Accepted":
        """Return the rows that are expected, with what they complete."""
        names = ["path", "task", "prompt", "segment", "is_last_segment"]
        keep, started, files, batches = list[int](), list[PairKey](), list[str](), Counter[int]()
        with self._changed:
            for n, row in enumerate(zip(*(rows[name].to_pylist() for name in names), strict=True)):
                path, task, prompt, segment, is_last = row
                pairs = self._files.get(path, {})
                pair = pairs.get((task, prompt))
                if pair is None or segment in pair.segments:
                    continue  # of a batch that was done twice
                keep.append(n)
                if not pair.segments:
                    started.append((path, task, prompt))
                if not pair.add(segment, is_last=is_last):
                    continue
                batches[pair.batch] += 1
                del pairs[task, prompt]
                if not pairs:
                    del self._files[path]
                    files.append(path)
                    self._changed.notify_all()
        rows = rows.take(pa.array(keep, pa.int64()))
        return Accepted(rows=rows, started=started, files=files, batches=batches)

    def check_empty(self, out: str) -> None:
        """Refuse to end with rows missing.

        Raises:
            DataError: Names one file.
        """
        if self._files:
            path = next(iter(self._files))
            raise DataError(
                f"{out}: rows of {len(self._files)} files are missing, the first of {path}; run the job again"
            )


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """Rows that were expected."""

    rows: pa.Table
    started: Sequence[PairKey]
    """Pairs that have their first row with these."""
    files: Sequence[str]
    """Paths of the files that have all their rows with these."""
    batches: Counter[int]
    """Number of pairs that have all their rows with these, by the batch they were sent with."""


@dataclass(slots=True)
class _Pair:
    """Rows taken so far of a pair of file and prompt."""

    batch: int
    segments: set[int] = field(default_factory=set[int])
    num_all: int | None = None
    """Number of its windows, known with the last one."""

    def add(self, segment: int, *, is_last: bool) -> bool:
        """Take a window; returns whether none is missing."""
        self.segments.add(segment)
        self.num_all = segment + 1 if is_last else self.num_all
        return len(self.segments) == self.num_all
