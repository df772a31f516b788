"""A batch job without its engine: what is to be done, what came out. ``on_ray`` does the work between."""

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mats_ray.config import RunConfig
from mats_ray.config.infer import CaptionConfig
from mats_ray.data.listing import list_audio
from mats_ray.data.objects import is_remote, open_storage
from mats_ray.errors import DataError
from mats_ray.infer.decode import LISTED, Decoder
from mats_ray.infer.ledger import Ledger
from mats_ray.infer.parts import PartStore
from mats_ray.infer.respond import ResponderSettings
from mats_ray.infer.rows import Questions, Respondent, prompts_for, wanted_pairs
from mats_ray.models.directory import read_info


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSummary:
    """What the output of a batch job holds for the files and prompts it was asked for."""

    files: int
    rows: int
    """Files times prompts, all of them written."""
    ok: int
    errors: dict[str, int]
    """Error rows by code, most frequent first."""
    written: int
    """Rows this run added; the others were there before."""
    seconds: float
    out: str
    model_id: str

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
            f"{did}: {self.out} (model {self.model_id})"
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

    @classmethod
    def plan(
        cls, config: RunConfig, *, audio: str, out: str, model: str, questions: Questions
    ) -> "CaptionJob":
        """Look at model, audio and output, and work out what is missing.

        Raises:
            ConfigError: A question is empty.
            ModelError: There is no usable model directory.
            DataError: There is no audio, or the output folder cannot be used.
        """
        started = time.monotonic()
        prompts = prompts_for(questions)
        info = read_info(model)
        # a configuration that says nothing about decoding leaves the model its own
        chosen = config.generation if "generation" in config.model_fields_set else info.generation
        respondent = Respondent(model_id=info.model_id, generation=chosen)
        objects = list_audio(audio)
        wanted_FP = wanted_pairs([one.path for one in objects], prompts, questions)
        ledger = Ledger(objects, prompts, respondent, wanted_FP=wanted_FP)
        store = PartStore(out)
        outdated = ledger.enter_all(store)
        settings = config.caption
        responder = ResponderSettings(
            model=str(info.directory.resolve()),
            respondent=respondent,
            prompts=prompts,
            batch_size=settings.batch_size,
            num_threads=max(1, int(settings.cpus_per_actor)),
            device="cuda" if settings.gpus_per_actor else "cpu",
        )
        return cls(
            ledger=ledger,
            store=store,
            outdated=outdated,
            decoder=_decoder(audio, settings),
            responder=responder,
            settings=settings,
            started=started,
        )

    @property
    def num_files(self) -> int:
        """All files, done or not."""
        return len(self.ledger.objects)

    @property
    def num_files_done(self) -> int:
        """Files that owe no row."""
        return int(self.ledger.done_FP.all(axis=1).sum())

    @property
    def is_done(self) -> bool:
        """Whether no row is missing."""
        return bool(self.ledger.done_FP.all())

    def todo(self) -> list[pa.Table]:
        """Tables of ``LISTED`` rows, ``batch_size`` files each: the grain of work and of progress."""
        rows = [
            {
                "path": one.path,
                "etag": one.etag,
                "size": one.size,
                "prompts": np.flatnonzero(~done_P).tolist(),
            }
            for one, done_P in zip(self.ledger.objects, self.ledger.done_FP, strict=True)
            if not done_P.all()
        ]
        table = pa.Table.from_pylist(rows, schema=LISTED)
        size = self.responder.batch_size
        return [table.slice(start, size) for start in range(0, len(table), size)]

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
            written=int((found.done_FP & ~self.ledger.done_FP).sum()),
            seconds=time.monotonic() - self.started,
            out=self.store.out,
            model_id=self.responder.respondent.model_id,
        )
        num_errors, allowed = sum(summary.errors.values()), self.settings.max_error_fraction
        if num_errors > allowed * summary.rows:
            raise DataError(
                f"{num_errors} of {summary.rows} rows are errors ({summary.error_counts}), more than "
                f"caption.max_error_fraction={allowed:g} lets pass; all rows are written to {summary.out}; "
                f"the first: {found.first_error}"
            )
        return summary


def _decoder(audio: str, settings: CaptionConfig) -> Decoder:
    files = open_storage(audio)[0] if is_remote(audio) else None
    return Decoder(files=files, max_seconds=settings.max_seconds, batch_size=settings.batch_size)
