"""A batch job, from its requests to its summary; ``on_ray`` runs the batches between.

    requests, block by block -> compared with the output -> batches of files -> [decode, answer] -> accepted
    rows

Nothing grows with the number of files: a block, the files in flight, and the part at hand are in memory.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

import numpy as np
import pyarrow as pa

from mats_ray.caption.answer import AnswerSettings
from mats_ray.caption.decode import DecodeStage, file_table, window_cut
from mats_ray.caption.embeddings import EmbeddingStore
from mats_ray.caption.lance_output import LanceStore, LanceWriter, open_output
from mats_ray.caption.ledger import COLUMNS, RETRIED, Accepted, Comparison, InFlight, Outcomes, compare
from mats_ray.caption.output import PairKey, PartStore
from mats_ray.caption.part_writer import PartWriter
from mats_ray.caption.prompts import PromptRules, Questions
from mats_ray.caption.requests import RequestBlock, RequestSource
from mats_ray.caption.rows import (
    MANIFEST_COLUMNS,
    Prompt,
    Provenance,
    RowError,
    Source,
    error_row,
    to_table,
    with_manifest,
)
from mats_ray.caption.summary import CaptionSummary, skipped_line
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.generation import GenerationConfig
from mats_ray.data.audio_files import AudioObject
from mats_ray.data.audio_listing import audio_objects
from mats_ray.data.manifest import ManifestRow
from mats_ray.data.windows import Cut
from mats_ray.errors import ConfigError, DataError
from mats_ray.models.directory import ModelInfo, read_info
from mats_ray.models.stand_in import warn_of_stand_ins

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

_NO_BATCH = -1
_ROWS_AT_A_TIME = 8_192
"""Maximum number of error rows that are Python objects at the same time."""


class CaptionJob:
    """A batch job.

    Args:
        settings, generation, audio, out, model, questions, labels: Those of ``caption.on_ray.caption``.
        create: Make the output folder and write there; without, only ``forecast`` is of use.

    Raises:
        ConfigError: A question is empty, or the output is the folder of the embeddings.
        ModelError, DataError: The model directory, the audio or the output folder cannot be used.

    Attributes:
        num_files: Number of files so far.
        num_files_done: Number of those that had all their rows before.
        num_files_new: Number of those that got their last rows now.
        is_listed: Whether there are no more.
        done: Rows of earlier runs.
        new: Rows of this one.
        stage_seconds: Seconds at work by stage.
        check: Called before each write; raises where the output is another job's by now.
    """

    def __init__(
        self,
        settings: CaptionConfig,
        generation: GenerationConfig | None = None,
        *,
        audio: str | Sequence[AudioObject],
        out: str,
        model: str,
        questions: Questions = (),
        labels: Sequence[str] = (),
        create: bool = True,
    ) -> None:
        self.settings, self._started = settings, time.monotonic()
        if settings.embeddings and settings.embeddings.rstrip("/") == out.rstrip("/"):
            raise ConfigError(f"caption.embeddings is the output's folder, {out}; give it one of its own")
        info = read_info(model)
        warn_of_stand_ins(model, info.stand_ins)
        cut = window_cut(settings, info.model.clap)
        self.provenance = _provenance(settings, generation, info, cut)
        self.decode_stage = DecodeStage.of(settings, info.model.clap, cut)
        self.answer_settings = AnswerSettings.of(settings, info, self.provenance, labels)
        self._audio, self._questions = audio, questions if isinstance(questions, Mapping) else {}
        shared = () if isinstance(questions, Mapping) else questions
        self._rules = PromptRules(shared=shared, labels=labels, caption=settings.always_caption)
        self.store = open_output(out, settings.format, create=create)
        self.source = self._requests()
        self.embeddings: EmbeddingStore | None = None
        if settings.embeddings:
            self.embeddings = EmbeddingStore(settings.embeddings, info.space, create=create)
        self.check: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._in_flight, self._stale = InFlight(), dict[PairKey, list[str]]()
        self._manifest, self._repeated = dict[str, Sequence[ManifestRow]](), set[str]()
        """Both for files in flight."""
        self.num_files = self.num_files_done = self.num_files_new = 0
        self.is_listed = False
        self.done, self.new = Outcomes(), Outcomes()
        self.stage_seconds = dict[str, float]()
        self._writer: PartWriter | LanceWriter | None = None

    def __enter__(self) -> "CaptionJob":
        """Open the output for writing."""
        store, settings = self.store, self.settings
        if isinstance(store, LanceStore):
            self._writer = LanceWriter(store)
        else:
            file_format = "jsonl" if settings.format == "jsonl" else "parquet"
            self._writer = PartWriter(store, file_format=file_format, part_rows=settings.part_rows)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the rows that wait, also after an error."""
        assert self._writer is not None
        with self._lock:
            self.check()
            self._writer.flush()

    def batches(self) -> Iterator[pa.Table]:
        """Yield the files that lack rows, with the prompts they lack: tables of ``decode.FILE_SCHEMA``.

        Rows that are there twice are removed on the way. Files that are known to be of no use by their size
        have their rows at once.

        Raises:
            DataError: No audio is there, or something cannot be read.
        """
        numbers = itertools.count()
        for block, comparison in self._compared(self._resolve):
            for files in _chunks(self._missing(block, comparison), self.settings.batch_size):
                number = next(numbers)
                for file, prompts in files:
                    self._send(file, prompts, block, batch=number)
                yield file_table(files)

    def files_to_encode(self) -> Iterator[pa.Table]:
        """Yield the files of all requests that have no embedding yet: tables of ``FILE_SCHEMA``."""
        assert self.embeddings is not None
        for block in self._requests().blocks():
            missing = self.embeddings.missing(block.files, retried=self._retried)
            for files in _chunks(missing, self.settings.batch_size):
                yield file_table([(file, ()) for file in files])

    def embedded(self, files: pa.Table) -> pa.Table:
        """Return the embeddings of a batch of files, with their prompts: ``EmbeddingStore.join``.

        A file that has none has changed since it was encoded, and gets its rows here.
        """
        assert self.embeddings is not None
        table, missing = self.embeddings.join(files)
        changed = "is not the file any more whose audio was embedded; run the job again"
        self.accept(
            to_table(
                error_row(
                    Source(path=file["path"], etag=file["etag"]),
                    Prompt.from_value(prompt),
                    self.provenance,
                    RowError("changed", f"{file['path']} {changed}"),
                )
                for file in missing.to_pylist()
                for prompt in file["prompts"]
            )
        )
        return table

    def accept(self, rows: pa.Table) -> Accepted:
        """Take rows, each once, and write them when it is time to.

        Raises:
            DataError: The output cannot be written.
        """
        assert self._writer is not None
        accepted = self._in_flight.accept(rows)
        with self._lock:
            self.check()
            replaced = dict[str, list[PairKey]]()
            for key in accepted.started:
                for part in self._stale.pop(key, ()):
                    replaced.setdefault(part, []).append(key)
            self._writer.add(with_manifest(accepted.rows, self._manifest), replaced=replaced)
            self.new.add(accepted.rows)
            for path in accepted.files:
                self._manifest.pop(path, None)
            self.num_files_new += len(accepted.files) - len(self._repeated.intersection(accepted.files))
            self._repeated.difference_update(accepted.files)
        return accepted

    def cancel(self) -> None:
        """Let nobody wait for files in flight: their job has failed."""
        self._in_flight.clear()

    def forecast(self) -> str:
        """Return what there is and what is missing, as text for ``--dry-run``."""
        sizes, pairs, prompts, outdated = np.zeros(2, np.int64), np.zeros(2, np.int64), set[Prompt](), 0
        for block, found in self._compared(None):
            done_F = _files_done(block, found)
            size_F = block.files["size"].to_numpy()
            sizes += size_F.sum(), size_F[done_F].sum()
            pairs += len(found.done_K), found.done_K.sum()
            prompts.update(block.plan.prompts)
            outdated += sum(len(row_N) for _, row_N in found.surplus) + found.num_stale
        num_left = self.num_files - self.num_files_done
        return (
            f"{self.num_files} files, {_megabytes(sizes[0])}; {pairs[0]} files times prompts, "
            f"{len(prompts)} different prompts\n{skipped_line(self.source.left_out)}"
            f"done: {self.num_files_done} files, {self.done.num_rows} rows ({self.done.num_ok} ok)\n"
            f"to do: {num_left} files, {_megabytes(sizes[0] - sizes[1])}; "
            f"{pairs[0] - pairs[1]} answers; {outdated} outdated rows to be replaced\n"
            f"nothing was done: {self.store.out} (model {self.provenance.model_id})"
        )

    def finish(self) -> CaptionSummary:
        """Check that no row is missing, write the summary, and log the first files with errors.

        Raises:
            DataError: Rows are missing, or more rows are errors than the configuration lets pass; all others
                are written then.
        """
        assert self._writer is not None
        with self._lock:
            self.check()
            self._writer.close()
        self._in_flight.check_empty(self.store.out)
        self.stage_seconds["write"] = self._writer.seconds
        both = self.done.plus(self.new)
        summary = CaptionSummary(
            files=self.num_files,
            rows=both.num_rows,
            ok=both.num_ok,
            errors=dict(both.errors.most_common()),
            written=self.new.num_rows,
            seconds=time.monotonic() - self._started,
            out=self.store.out,
            model_id=self.provenance.model_id,
            skipped=self.source.left_out,
            stage_seconds={stage: round(seconds, 3) for stage, seconds in self.stage_seconds.items()},
        )
        if summary.written or not summary.has_counts_of(self.store.read_summary()):
            self.store.write_summary(summary.as_dict(both.examples))
        for path, code in both.first_failures.items():
            logger.warning("no answer, %s: %s", code, path)
        num_errors, allowed = sum(summary.errors.values()), self.settings.max_error_fraction
        if num_errors > allowed * summary.rows:
            raise DataError(
                f"{num_errors} of {summary.rows} rows are errors ({summary.error_counts}), more than "
                f"caption.max_error_fraction={allowed:g} lets pass; all rows are written to {summary.out}; "
                f"the first: {both.first_error}"
            )
        return summary

    @property
    def _retried(self) -> frozenset[str]:
        return RETRIED | {*self.settings.retry}

    def _requests(self) -> RequestSource:
        return RequestSource(
            self._audio,
            self._rules,
            questions=self._questions,
            prefixes=self.settings.prefixes,
            # a table keeps no ranges of paths: its listing begins with the first key
            resume_after=self.store.last_path if isinstance(self.store, PartStore) else lambda _: None,
        )

    def _compared(
        self, resolve: Callable[[RequestBlock, Comparison], None] | None
    ) -> Iterator[tuple[RequestBlock, Comparison]]:
        """Yield the requests with what the output holds of them.

        Args:
            resolve: Changes the output while nothing else does.
        """
        blocks, started = self.source.blocks(), time.perf_counter()
        while (block := next(blocks, None)) is not None:
            with self._lock:
                find = self._writer.find if self._writer else self.store.find
                columns = [*COLUMNS, *(MANIFEST_COLUMNS if block.manifest else ())]
                found = find(block.files["path"].combine_chunks(), columns)
                comparison = compare(block.files, block.plan, self.provenance, found, retried=self._retried)
                if resolve is not None:
                    self.check()
                    resolve(block, comparison)
            self.num_files += len(block.files) - len(block.repeated)
            done_F = _files_done(block, comparison)
            if block.repeated:
                done_F &= ~np.isin(block.files["path"].to_pylist(), list(block.repeated))
            self.num_files_done += int(done_F.sum())
            for one in comparison.kept:
                self.done.add(one.table)
            self._add_seconds("list", time.perf_counter() - started)
            yield block, comparison
            started = time.perf_counter()
        self.is_listed = True
        logger.info("%d files", self.num_files)

    def _resolve(self, block: RequestBlock, found: Comparison) -> None:
        """Give rows the columns that the manifest has now, and remove those that are there twice."""
        assert self._writer is not None
        for one in found.kept if block.manifest else ():
            current = with_manifest(one.table, block.manifest)
            if not current.equals(one.table):
                self._writer.set_rows(one.part, one.row_N, current.select(MANIFEST_COLUMNS))
        for part, row_N in found.surplus:
            self._writer.remove_rows(part, row_N)
        self._stale.update(found.stale)

    def _missing(self, block: RequestBlock, found: Comparison) -> Iterator[tuple[AudioObject, list[Prompt]]]:
        """Yield the files that lack rows; those that cannot be used by their size have them at once."""
        useless = list[tuple[AudioObject, list[Prompt], RowError]]()
        plan = block.plan
        files = np.unique(plan.files()[~found.done_K])
        for file, index in zip(audio_objects(block.files.take(pa.array(files))), files, strict=True):
            pairs = slice(plan.first_F[index], plan.first_F[index + 1])
            prompts = [plan.prompts[n] for n in plan.prompt_K[pairs][~found.done_K[pairs]]]
            if (error := self.decode_stage.opener.size_error(file)) is None:
                yield file, prompts
                continue
            useless.append((file, prompts, error))
            if len(useless) == _ROWS_AT_A_TIME:
                self._add_errors(useless, block)
                useless.clear()
        self._add_errors(useless, block)

    def _send(self, file: AudioObject, prompts: Sequence[Prompt], block: RequestBlock, *, batch: int) -> None:
        """Expect the rows of a file."""
        self._in_flight.wait_for(file.path)
        self._in_flight.add(file.path, prompts, batch=batch)
        with self._lock:
            if file.path in block.manifest:
                self._manifest[file.path] = block.manifest[file.path]
            if file.path in block.repeated:
                self._repeated.add(file.path)

    def _add_errors(
        self, files: Sequence[tuple[AudioObject, Sequence[Prompt], RowError]], block: RequestBlock
    ) -> None:
        for file, prompts, _ in files:
            self._send(file, prompts, block, batch=_NO_BATCH)
        self.accept(
            to_table(
                error_row(Source(path=file.path, etag=file.etag), prompt, self.provenance, error)
                for file, prompts, error in files
                for prompt in prompts
            )
        )

    def _add_seconds(self, stage: str, seconds: float) -> None:
        self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds


def _files_done(block: RequestBlock, found: Comparison) -> np.ndarray:
    """Return which files have all their rows: (F,) bool."""
    return np.logical_and.reduceat(found.done_K, block.plan.first_F[:-1])


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while some := list(itertools.islice(iterator, size)):
        yield some


def _megabytes(sizes: np.ndarray) -> str:
    return f"{sizes.sum() / 1e6:.1f} MB"


def _provenance(
    settings: CaptionConfig, generation: GenerationConfig | None, info: ModelInfo, cut: Cut | None
) -> Provenance:
    windows = "" if cut is None else f"{'mean over ' if settings.pool else ''}{cut}"
    return Provenance(model_id=info.model_id, generation=generation or info.generation, windows=windows)
