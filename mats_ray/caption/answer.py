"""Second stage of a batch job: decoded clips to finished rows, by one pipeline per process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers.utils import logging as transformers_logging

from mats_ray.caption.clips import batches_of, clips_of
from mats_ray.caption.decode import Opener
from mats_ray.caption.encode import Heard, Hearing
from mats_ray.caption.rows import Prompt, Respondent, Source, error_row, label_row, ok_row, to_table
from mats_ray.data.windows import Cut
from mats_ray.errors import AnswerError, AudioError
from mats_ray.infer.classification import Match, match
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.types import Answer


@dataclass(frozen=True, kw_only=True)
class ResponderSettings:
    """What a process needs to become a responder."""

    model: str
    respondent: Respondent
    prompts: Sequence[Prompt]
    batch_size: int
    """Prompts answered at a time; clips are encoded in the batches they come in."""
    num_threads: int
    device: str
    opener: Opener
    """Of files too long to be sent."""
    pool: Cut | None = None
    """Windows whose mean is heard; None: CLAP's own."""


class Responder:
    """Callable for Ray Data, one per actor: a table of ``BATCHES`` to a table of output rows."""

    def __init__(self, settings: ResponderSettings) -> None:
        torch.set_num_threads(settings.num_threads)
        transformers_logging.disable_progress_bar()  # a bar per actor and model would fill the driver's log
        self._settings = settings
        self._pipeline = MATSPipeline.from_pretrained(settings.model, device=settings.device)
        self._hearing = Hearing(encoder=self._pipeline.encoder, opener=settings.opener, pool=settings.pool)
        self._labels = dict[tuple[str, ...], np.ndarray]()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Answer every prompt of every clip; each clip is encoded once."""
        return to_table(row for batch in batches_of(table) for row in self._rows(batch))

    def _rows(self, table: pa.Table) -> Iterator[dict[str, Any]]:
        heard = self._hearing.hear(clips_of(table))
        clips = table.drop_columns(["samples"]).to_pylist()
        prompts = self._settings.prompts
        asked = [(clip, prompts[index]) for clip, row in enumerate(clips) for index in row["prompts"]]
        answers = iter(self._answer([(heard[clip], prompt) for clip, prompt in asked]))
        respondent = self._settings.respondent
        for clip, prompt in asked:
            one = heard[clip]
            source = _source(clips[clip], one)
            if isinstance(one, AudioError):
                yield error_row(source, prompt, respondent, one)
            elif prompt.labels:
                yield label_row(source, prompt, respondent, self._match(one, prompt.labels))
            elif isinstance(answer := next(answers), AnswerError):
                yield error_row(source, prompt, respondent, answer)
            else:
                yield ok_row(source, prompt, respondent, answer)

    def _match(self, heard: Heard, labels: tuple[str, ...]) -> list[Match]:
        if labels not in self._labels:
            self._labels[labels] = self._pipeline.encoder.clap.encode_text(labels).cpu().numpy()
        return match(heard.embedding_C, self._labels[labels], labels)

    def _answer(self, asked: Sequence[tuple[Heard | AudioError, Prompt]]) -> Iterator[Answer | AnswerError]:
        """Answer what was heard, in order, ``batch_size`` prompts at a time."""
        heard = [
            (one.embedding_C, prompt.instruction)
            for one, prompt in asked
            if isinstance(one, Heard) and not prompt.labels
        ]
        for start in range(0, len(heard), self._settings.batch_size):
            yield from self._answer_batch(heard[start : start + self._settings.batch_size])

    def _answer_batch(self, heard: Sequence[tuple[np.ndarray, str]]) -> list[Answer | AnswerError]:
        """Answer a batch; if it holds prompts that cannot be answered, in halves, down to those."""
        embeddings, instructions = zip(*heard, strict=True)
        generation = self._settings.respondent.generation
        try:
            return [
                *self._pipeline.answerer.answer(np.stack(embeddings), instructions, generation=generation)
            ]
        except AnswerError as error:
            if len(heard) == 1:
                return [error]
        middle = len(heard) // 2
        return self._answer_batch(heard[:middle]) + self._answer_batch(heard[middle:])


def _source(clip: dict[str, Any], heard: Heard | AudioError) -> Source:
    start_s, end_s = clip["start_s"], clip["end_s"]
    if end_s is None and isinstance(heard, Heard):  # a long file: known only now
        start_s, end_s = 0.0, heard.seconds
    return Source(
        path=clip["path"],
        etag=clip["etag"],
        start_s=start_s,
        end_s=end_s,
        segment=clip["segment"],
        is_last=clip["is_last"],
    )
