"""A batch job without its engine: what is to be done, what came out. ``on_ray`` does the work between."""

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mats_ray.caption.answer import ResponderSettings
from mats_ray.caption.decode import LISTED, Decoder, Opener
from mats_ray.caption.ledger import Ledger
from mats_ray.caption.output import PartStore
from mats_ray.caption.prompts import Asked, Questions, ask
from mats_ray.caption.rows import Respondent
from mats_ray.config import RunConfig
from mats_ray.config.caption import CaptionConfig
from mats_ray.data.audio import Limits
from mats_ray.data.listing import AudioObject, counted, list_audio
from mats_ray.data.manifest import is_manifest, read_manifest
from mats_ray.data.windows import Cut
from mats_ray.errors import ConfigError, DataError
from mats_ray.models.build import clap_window_seconds
from mats_ray.models.directory import ModelInfo, read_info
from mats_ray.storage import Environment

MAX_DECODED_BYTES = 2**40
"""No limit of its own: ``caption.max_seconds`` is one."""

_ROWS_AT_A_TIME = 8_192
"""Of the files to do: as Python objects there are never more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSummary:
    """What the output of a batch job holds for the files and prompts it was asked for."""

    files: int
    rows: int
    """Files times prompts, or windows of files times prompts, all of them written."""
    ok: int
    errors: dict[str, int]
    """Error rows by code, most frequent first."""
    written: int
    """Rows this run added; the others were there before."""
    seconds: float
    out: str
    model_id: str
    left_out: str = ""
    """Files that are no audio, counted by extension."""

    @property
    def error_counts(self) -> str:
        """The errors in words."""
        return ", ".join(f"{count} {code}" for code, count in self.errors.items()) or "none"

    def __str__(self) -> str:
        """Say it in two lines."""
        did = f"{self.written} rows written in {self.seconds:.1f} s"
        if not self.written:
            did = "nothing to do, every row was there"
        return (
            f"{self.files} files, {self.rows} rows: {self.ok} ok, errors: {self.error_counts}\n"
            f"{_left_out_line(self.left_out)}{did}: {self.out} (model {self.model_id})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionJob:
    """A planned job; planning changes nothing in the output."""

    ledger: Ledger
    store: PartStore
    outdated: dict[str, np.ndarray]
    """Parts with rows of an older content, model or decoding, and which of their rows to keep."""
    decoder: Decoder
    responder: ResponderSettings
    settings: CaptionConfig
    started: float
    left_out: str
    """Files that are no audio, counted by extension."""

    @classmethod
    def plan(
        cls,
        config: RunConfig,
        *,
        audio: str,
        out: str,
        model: str,
        questions: Questions = (),
        labels: Sequence[str] = (),
        touch: bool = True,
    ) -> "CaptionJob":
        """Look at model, audio and output, and work out what is missing.

        Args:
            config: As for ``caption.on_ray.caption``, with the other arguments.
            audio: Folder, file, prefix or manifest.
            out: Folder or prefix of the rows.
            model: Model directory.
            questions: Asked of every file, or of each path its own.
            labels: To classify every file with.
            touch: Make the output folder.

        Raises:
            ConfigError: A question is empty.
            ModelError, DataError: The model directory, the audio or the output folder cannot be used.
        """
        started, info, settings = time.monotonic(), read_info(model), config.caption
        objects, asked, left_out = _listed(audio, questions, labels)
        cut, opener = _cut(settings, info), _opener(settings)
        ledger, store = Ledger(objects, asked, _respondent(config, info, cut)), PartStore(out, touch=touch)
        return cls(
            ledger=ledger,
            store=store,
            outdated=ledger.enter_all(store),
            decoder=Decoder(opener=opener, batch_size=settings.batch_size, cut=_row_cut(settings, cut)),
            responder=_responder(info, ledger, settings, opener, cut),
            settings=settings,
            started=started,
            left_out=left_out,
        )

    @property
    def num_files(self) -> int:
        """All files, done or not."""
        return len(self.ledger.objects)

    @property
    def num_files_done(self) -> int:
        """Files that owe no row."""
        return int(self.ledger.files_done().sum())

    @property
    def is_done(self) -> bool:
        """Whether no row is missing."""
        return bool(self.ledger.done_K.all())

    def todo(self) -> list[pa.Table]:
        """Tables of ``LISTED`` rows, ``batch_size`` files each: the grain of work and of progress."""
        ledger = self.ledger
        rows = (
            {"path": one.path, "etag": one.etag, "size": one.size, "prompts": owed}
            for file, one in enumerate(ledger.objects)
            if (owed := ledger.owed(file))
        )
        chunks = [LISTED.empty_table()]
        while some := list(itertools.islice(rows, _ROWS_AT_A_TIME)):
            chunks.append(pa.Table.from_pylist(some, schema=LISTED))
        table = pa.concat_tables(chunks).combine_chunks()
        size = self.responder.batch_size
        return [table.slice(start, size) for start in range(0, len(table), size)]

    def forecast(self) -> str:
        """Say what there is and what is to be done, in lines for a person."""
        ledger = self.ledger
        done_F = ledger.files_done()
        sizes_F = np.array([one.size for one in ledger.objects])
        replaced = sum(int((~keep_N).sum()) for keep_N in self.outdated.values())
        return (
            f"{len(done_F)} files, {_megabytes(sizes_F)}; {len(ledger.done_K)} files times prompts, "
            f"{len(ledger.asked.prompts)} different prompts\n{_left_out_line(self.left_out)}"
            f"done: {int(done_F.sum())} files, {ledger.num_rows} rows ({ledger.num_ok} ok)\n"
            f"to do: {int((~done_F).sum())} files, {_megabytes(sizes_F[~done_F])}; "
            f"{int((~ledger.done_K).sum())} answers; {replaced} outdated rows to be replaced\n"
            f"nothing was done: {self.store.out} (model {ledger.respondent.model_id})"
        )

    def drop_outdated(self) -> None:
        """Remove outdated rows, once. To be called when there is something to put in their place.

        A model that turns out to be broken must not cost the rows of the one before.
        """
        while self.outdated:
            self.store.keep(*self.outdated.popitem())

    def finish(self) -> CaptionSummary:
        """Read the output again and sum it up.

        Raises:
            DataError: A row is missing or there twice, or more rows are errors than the configuration lets
                pass; all rows are written then.
        """
        self.drop_outdated()
        found = self.ledger.check(self.store)
        summary = CaptionSummary(
            files=self.num_files,
            rows=found.num_rows,
            ok=found.num_ok,
            errors=dict(found.errors.most_common()),
            written=found.num_rows - self.ledger.num_rows,
            seconds=time.monotonic() - self.started,
            out=self.store.out,
            model_id=self.responder.respondent.model_id,
            left_out=self.left_out,
        )
        num_errors, allowed = sum(summary.errors.values()), self.settings.max_error_fraction
        if num_errors > allowed * summary.rows:
            raise DataError(
                f"{num_errors} of {summary.rows} rows are errors ({summary.error_counts}), more than "
                f"caption.max_error_fraction={allowed:g} lets pass; all rows are written to {summary.out}; "
                f"the first: {found.first_error}"
            )
        return summary


def _left_out_line(left_out: str) -> str:
    return f"left out, no audio: {left_out}\n" if left_out else ""


def _megabytes(sizes: np.ndarray) -> str:
    return f"{sizes.sum() / 1e6:.1f} MB"


def _listed(
    audio: str, questions: Questions, labels: Sequence[str]
) -> tuple[Sequence[AudioObject], Asked, str]:
    """Find the files, the prompts of each (by a manifest, by the caller, or both), and what is left out."""
    own, left_out = dict[str, Sequence[str]](), Counter[str]()
    if is_manifest(audio):
        objects, own = read_manifest(audio)
    else:
        objects = list_audio(audio, left_out=left_out)
    everyone = () if isinstance(questions, Mapping) else questions
    if isinstance(questions, Mapping):
        own = {path: [*own.get(path, ()), *questions.get(path, ())] for path in {*own, *questions}}
    asked = ask([one.path for one in objects], everyone=everyone, own=own, labels=labels)
    return objects, asked, counted(left_out)


def _respondent(config: RunConfig, info: ModelInfo, cut: Cut | None) -> Respondent:
    # a configuration that says nothing about decoding leaves the model its own
    chosen = config.generation if "generation" in config.model_fields_set else info.generation
    hearing = "" if cut is None else f"{'mean over ' if config.caption.pool else ''}{cut}"
    return Respondent(model_id=info.model_id, generation=chosen, hearing=hearing)


def _cut(settings: CaptionConfig, info: ModelInfo) -> Cut | None:
    if settings.window is None:
        return None
    seconds = clap_window_seconds(info.model.clap) if settings.window == "clap" else settings.window
    if settings.hop is not None and settings.hop > seconds:
        raise ConfigError(f"caption.hop={settings.hop:g} is more than CLAP's window of {seconds:g} s")
    return Cut(seconds=seconds, hop=settings.hop or seconds)


def _responder(
    info: ModelInfo, ledger: Ledger, settings: CaptionConfig, opener: Opener, cut: Cut | None
) -> ResponderSettings:
    return ResponderSettings(
        model=str(info.directory.resolve()),
        respondent=ledger.respondent,
        prompts=ledger.asked.prompts,
        batch_size=settings.batch_size,
        num_threads=max(1, int(settings.cpus_per_actor)),
        device="cuda" if settings.gpus_per_actor else "cpu",
        opener=opener,
        pool=cut if settings.pool == "mean" else None,
    )


def _row_cut(settings: CaptionConfig, cut: Cut | None) -> Cut | None:
    """How files become rows: pooled windows are one."""
    return None if settings.pool else cut


def _opener(settings: CaptionConfig) -> Opener:
    # decoded audio is never held whole: its seconds are what is limited
    limits = Limits(
        max_seconds=settings.max_seconds, max_bytes=settings.max_bytes, max_decoded_bytes=MAX_DECODED_BYTES
    )
    return Opener(environment=Environment(), limits=limits)
