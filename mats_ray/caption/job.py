"""Plan and summary of a batch job; ``on_ray`` runs what is planned."""

import itertools
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from mats_ray.caption.answer import AnswerSettings
from mats_ray.caption.decode import FILE_SCHEMA, AudioOpener, DecodeStage, clap_cut
from mats_ray.caption.embeddings import EmbeddingStore
from mats_ray.caption.ledger import RETRIED, Ledger
from mats_ray.caption.output import PartStore
from mats_ray.caption.prompts import PromptPlan, Questions, plan_prompts
from mats_ray.caption.rows import Provenance, with_manifest
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.generation import GenerationConfig
from mats_ray.data.audio import Limits
from mats_ray.data.audio_files import AudioObject, format_left_out, list_audio
from mats_ray.data.manifest import ManifestRow, is_manifest, read_manifest
from mats_ray.data.windows import Cut
from mats_ray.errors import ConfigError, DataError
from mats_ray.models.directory import ModelInfo, read_info
from mats_ray.storage import Environment
from mats_ray.version import __version__

logger = logging.getLogger(__name__)

MAX_DECODED_BYTES = 2**40
"""Never reached: ``caption.max_seconds`` is the limit."""

_ROWS_AT_A_TIME = 8_192
"""Maximum number of files that are Python objects at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSummary:
    """Number of files and rows of a batch job's output."""

    files: int
    rows: int
    """Files times prompts, or windows of files times prompts."""
    ok: int
    errors: dict[str, int]
    """Error rows by code, most frequent first."""
    written: int
    """Rows of this run; the others were there before."""
    seconds: float
    out: str
    model_id: str
    skipped: str = ""
    """Files that are no audio, counted by extension."""

    @property
    def error_counts(self) -> str:
        """Number of errors by code, as text."""
        return ", ".join(f"{count} {code}" for code, count in self.errors.items()) or "none"

    def as_dict(self, examples: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, Any]:
        """Return it as ``_summary.json`` has it.

        Args:
            examples: Path and text of some errors by code.
        """
        tree = {key: value for key, value in asdict(self).items() if key not in ("errors", "out")}
        errors = {
            code: {
                "count": count,
                "examples": [{"path": path, "error": text} for path, text in examples.get(code, ())],
            }
            for code, count in self.errors.items()
        }
        rate = self.written / self.seconds if self.seconds else 0.0
        versions = {"version": __version__, "finished": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        return tree | {"rows_per_second": round(rate, 2), "errors": errors} | versions

    def __str__(self) -> str:
        """Return it in two lines."""
        written = f"{self.written} rows written in {self.seconds:.1f} s"
        if not self.written:
            written = "nothing to do, every row was there"
        return (
            f"{self.files} files, {self.rows} rows: {self.ok} ok, errors: {self.error_counts}\n"
            f"{_skipped_line(self.skipped)}{written}: {self.out} (model {self.model_id})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionJob:
    """A planned job; planning removes no row of the output."""

    ledger: Ledger
    store: PartStore
    outdated: dict[str, np.ndarray]
    """Parts with rows of an older content, model or decoding: bool (N,), which of their rows to keep."""
    decode_stage: DecodeStage
    answer_settings: AnswerSettings
    settings: CaptionConfig
    started: float
    skipped: str
    """Files that are no audio, counted by extension."""
    manifest: Mapping[str, Sequence[ManifestRow]]
    """Rows of the manifest by path; empty where the audio is a folder."""
    embeddings: EmbeddingStore | None
    """Keeps the embeddings of all files; None: none is kept."""

    @classmethod
    def plan(
        cls,
        settings: CaptionConfig,
        generation: GenerationConfig | None = None,
        *,
        audio: str | Sequence[AudioObject],
        out: str,
        model: str,
        questions: Questions = (),
        labels: Sequence[str] = (),
        create: bool = True,
    ) -> "CaptionJob":
        """Read model settings, audio listing and output, and find the missing rows.

        Arguments are those of ``caption.on_ray.caption``; ``create`` makes the output folder.

        Raises:
            ConfigError: A question is empty.
            ModelError, DataError: The model directory, the audio or the output folder cannot be used.
        """
        started, info = time.monotonic(), read_info(model)
        objects, manifest, prompts, skipped = _files_and_prompts(audio, questions, labels, settings)
        cut, store = _cut(settings, info), PartStore(out, create=create)
        ledger = Ledger(objects, prompts, _provenance(settings, generation, info, cut))
        return cls(
            ledger=ledger,
            store=store,
            outdated=ledger.scan(store, retried=RETRIED | {*settings.retry}),
            decode_stage=_decode_stage(info, settings, cut),
            answer_settings=_answer_settings(info, settings, ledger),
            settings=settings,
            started=started,
            skipped=skipped,
            manifest=manifest,
            embeddings=EmbeddingStore(settings.embeddings, info.space) if settings.embeddings else None,
        )

    @property
    def num_files(self) -> int:
        """Number of all files, done or not."""
        return len(self.ledger.objects)

    @property
    def num_files_done(self) -> int:
        """Number of files with all their rows."""
        return int(self.ledger.files_done().sum())

    @property
    def is_done(self) -> bool:
        """Whether no row is missing."""
        return bool(self.ledger.done_K.all())

    def missing_files(self) -> list[pa.Table]:
        """Return the files that lack rows: tables of ``FILE_SCHEMA``, ``batch_size`` files each."""
        return self._file_tables(
            (file, prompts)
            for index, file in enumerate(self.ledger.objects)
            if (prompts := self.ledger.missing_prompts(index))
        )

    def files_to_encode(self) -> list[pa.Table]:
        """Return the files of all prompts that have no embedding yet, as ``missing_files``."""
        assert self.embeddings is not None
        return self._file_tables(
            (file, ())
            for file in self.embeddings.missing(self.ledger.objects, retried=RETRIED | {*self.settings.retry})
        )

    def missing_embedded(self) -> list[pa.Table]:
        """Return the embeddings of the files that lack rows, with the prompts: ``EmbeddingStore.tables``."""
        assert self.embeddings is not None
        files = {
            file.path: (file.etag, self.ledger.missing_prompts(index))
            for index, file in enumerate(self.ledger.objects)
        }
        return list(self.embeddings.tables(files, batch_size=self.settings.batch_size))

    def _file_tables(self, files: Iterable[tuple[AudioObject, Sequence[int]]]) -> list[pa.Table]:
        rows = (
            {"path": file.path, "etag": file.etag, "size": file.size, "prompts": prompts}
            for file, prompts in files
        )
        chunks = [FILE_SCHEMA.empty_table()]
        while some := list(itertools.islice(rows, _ROWS_AT_A_TIME)):
            chunks.append(pa.Table.from_pylist(some, schema=FILE_SCHEMA))
        table = pa.concat_tables(chunks).combine_chunks()
        size = self.settings.batch_size
        return [table.slice(start, size) for start in range(0, len(table), size)]

    def forecast(self) -> str:
        """Return what there is and what is missing, as text for ``--dry-run``."""
        ledger = self.ledger
        done_F = ledger.files_done()
        sizes_F = np.array([file.size for file in ledger.objects])
        replaced = sum(int((~keep_N).sum()) for keep_N in self.outdated.values())
        return (
            f"{len(done_F)} files, {_megabytes(sizes_F)}; {len(ledger.done_K)} files times prompts, "
            f"{len(ledger.plan.prompts)} different prompts\n{_skipped_line(self.skipped)}"
            f"done: {int(done_F.sum())} files, {ledger.num_rows} rows ({ledger.num_ok} ok)\n"
            f"to do: {int((~done_F).sum())} files, {_megabytes(sizes_F[~done_F])}; "
            f"{int((~ledger.done_K).sum())} answers; {replaced} outdated rows to be replaced\n"
            f"nothing was done: {self.store.out} (model {ledger.provenance.model_id})"
        )

    def drop_outdated(self) -> None:
        """Remove outdated rows, once. To be called with the first new rows at hand.

        A model that turns out to be broken must not remove the rows of the one before.
        """
        while self.outdated:
            self.store.keep_rows(*self.outdated.popitem())

    def refresh_manifest(self) -> None:
        """Give rows of earlier runs the columns that the manifest has now; nothing is computed again."""
        for name in set(self.ledger.parts).intersection(self.store.names()) if self.manifest else ():
            table = self.store.read(name)
            if not (current := with_manifest(table, self.manifest)).equals(table):
                self.store.write(name, current)

    def finish(self) -> CaptionSummary:
        """Read the output again, check and count it, and log the first files with errors.

        Raises:
            DataError: A row is missing or there twice, or more rows are errors than the configuration lets
                pass; all rows are written then.
        """
        self.drop_outdated()
        self.refresh_manifest()
        found = self.ledger.check(self.store)
        summary = CaptionSummary(
            files=self.num_files,
            rows=found.num_rows,
            ok=found.num_ok,
            errors=dict(found.errors.most_common()),
            written=found.num_rows - self.ledger.num_rows,
            seconds=time.monotonic() - self.started,
            out=self.store.out,
            model_id=self.ledger.provenance.model_id,
            skipped=self.skipped,
        )
        if summary.written or not self.store.has_summary():  # a run that did nothing keeps the last one's
            self.store.write_summary(summary.as_dict(found.examples))
        for path, code in found.first_failures.items():
            logger.warning("no answer, %s: %s", code, path)
        num_errors, allowed = sum(summary.errors.values()), self.settings.max_error_fraction
        if num_errors > allowed * summary.rows:
            raise DataError(
                f"{num_errors} of {summary.rows} rows are errors ({summary.error_counts}), more than "
                f"caption.max_error_fraction={allowed:g} lets pass; all rows are written to {summary.out}; "
                f"the first: {found.first_error}"
            )
        return summary


def _skipped_line(skipped: str) -> str:
    return f"left out, no audio: {skipped}\n" if skipped else ""


def _megabytes(sizes: np.ndarray) -> str:
    return f"{sizes.sum() / 1e6:.1f} MB"


def _files_and_prompts(
    audio: str | Sequence[AudioObject], questions: Questions, labels: Sequence[str], settings: CaptionConfig
) -> tuple[Sequence[AudioObject], Mapping[str, Sequence[ManifestRow]], PromptPlan, str]:
    """Return files, the manifest's rows, the prompts, and the skipped files as text."""
    manifest, skipped = dict[str, list[ManifestRow]](), Counter[str]()
    if not isinstance(audio, str):
        objects = sorted(audio, key=lambda one: one.path)
    elif is_manifest(audio):
        objects, manifest = read_manifest(audio)
    else:
        objects = list_audio(audio, left_out=skipped)
    per_file: dict[str, Sequence[str]] = {
        path: questions_of
        for path, rows in manifest.items()
        if (questions_of := [r.question for r in rows if r.question])
    }
    shared = () if isinstance(questions, Mapping) else questions
    if isinstance(questions, Mapping):
        paths = {*per_file, *questions}
        per_file = {path: [*per_file.get(path, ()), *questions.get(path, ())] for path in paths}
    logger.info("%d files", len(objects))
    paths = [file.path for file in objects]
    prompts = plan_prompts(
        paths, shared=shared, per_file=per_file, labels=labels, caption=settings.always_caption
    )
    return objects, manifest, prompts, format_left_out(skipped)


def _provenance(
    settings: CaptionConfig, generation: GenerationConfig | None, info: ModelInfo, cut: Cut | None
) -> Provenance:
    windows = "" if cut is None else f"{'mean over ' if settings.pool else ''}{cut}"
    return Provenance(model_id=info.model_id, generation=generation or info.generation, windows=windows)


def _cut(settings: CaptionConfig, info: ModelInfo) -> Cut | None:
    if settings.window is None:
        return None
    seconds = clap_cut(info.model.clap)().seconds if settings.window == "clap" else settings.window
    if settings.hop is not None and settings.hop > seconds:
        raise ConfigError(f"caption.hop={settings.hop:g} is more than CLAP's window of {seconds:g} s")
    return Cut(seconds=seconds, hop=settings.hop or seconds)


def _decode_stage(info: ModelInfo, settings: CaptionConfig, cut: Cut | None) -> DecodeStage:
    clap = info.model.clap
    # decoded audio is never held whole, so its seconds are limited and not its bytes
    limits = Limits(
        max_seconds=settings.max_seconds, max_bytes=settings.max_bytes, max_decoded_bytes=MAX_DECODED_BYTES
    )
    return DecodeStage(
        opener=AudioOpener(environment=Environment(), limits=limits),
        batch_size=settings.batch_size,
        cut=cut,
        pooled=settings.pool == "mean",
        long_cut=clap_cut(clap) if clap.long_audio == "windows" else None,
    )


def _answer_settings(info: ModelInfo, settings: CaptionConfig, ledger: Ledger) -> AnswerSettings:
    return AnswerSettings(
        model=str(info.directory.resolve()),
        provenance=ledger.provenance,
        prompts=ledger.plan.prompts,
        batch_size=settings.batch_size,
        num_threads=max(1, int(settings.cpus_per_actor)),
        device="cuda" if settings.gpus_per_actor else "cpu",
    )
