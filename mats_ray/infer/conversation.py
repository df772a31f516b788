"""Many answers at once, each begun, told in pieces and ended on its own: ``StepDecoder`` with words.

Answers equal ``Answerer.answer``'s, token for token in float32, whatever else is under way.

Shapes: N new questions, C CLAP dim.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.infer import DECODING
from mats_ray.infer.pipeline import Answerer
from mats_ray.infer.spoken import Piece, Spoken
from mats_ray.models.search import BeamSearch, LineSearch, Penalties, Search
from mats_ray.models.stepwise import StepDecoder


@dataclass(frozen=True, eq=False, kw_only=True)
class Question:
    """One instruction about one embedding; equal to itself only, it names its answer."""

    embedding_C: np.ndarray
    instruction: str
    options: AnswerOptions = field(default_factory=AnswerOptions)
    in_pieces: bool = True
    """False: only the whole answer is wanted, which saves turning ids into text at every step."""


class Conversation:
    """Answers under way.

    Example::

        conversation = Conversation(answerer)
        conversation.begin([Question(embedding_C=embedding, instruction="Is there a dog?")])
        while conversation.open:
            for question, piece in conversation.go_on(): ...
    """

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._decoder = StepDecoder(answerer.model)
        self._open: dict[Question, tuple[Search, Spoken]] = {}

    @property
    def open(self) -> Sequence[Question]:
        """Questions whose answers are not complete."""
        return list(self._open)

    def __len__(self) -> int:
        """How many answers are under way; safe to ask from another thread."""
        return len(self._open)

    def begin(self, questions: Sequence[Question]) -> list[tuple[Question, Piece]]:
        """Read new questions together; returns what that alone lets one say.

        Raises:
            ConfigError: A question wants Santa of a model without.
        """
        prompts = self._answerer.prompts
        new = {
            question: (self._search(question.options), Spoken(prompts.decode, stop=question.options.stop))
            for question in questions
        }
        self._decoder.add(
            self._moved(questions),
            [prompts.after(question.instruction) for question in questions],
            [search for search, _ in new.values()],
        )
        self._open |= new
        return list(self._pieces())

    def go_on(self) -> list[tuple[Question, Piece]]:
        """Compute one more token of every answer; returns what can be said now."""
        self._decoder.step()
        return list(self._pieces())

    def leave(self, question: Question) -> None:
        """Forget a question nobody waits for any more."""
        search, _ = self._open.pop(question)
        self._decoder.drop(search)

    def _pieces(self) -> Iterator[tuple[Question, Piece]]:
        going = {id(search) for search in self._decoder.active}
        for question, (search, spoken) in list(self._open.items()):
            if id(search) in going:
                watched = question.in_pieces or question.options.stop
                piece = spoken.hear(search.ids) if watched else None
            else:
                piece = spoken.finish(search.ids, ended=search.ended)
            if piece is not None:
                if piece.answer is not None:
                    self.leave(question)
                yield question, piece

    def _moved(self, questions: Sequence[Question]) -> torch.Tensor:
        """(N, C) after Santa, which takes as long for many as for one."""
        alike = groupby(questions, key=lambda question: question.options.santa)
        return torch.cat(
            [
                self._answerer.move(np.stack([one.embedding_C for one in group]), santa=santa)
                for santa, group in alike
            ]
        )

    def _search(self, options: AnswerOptions) -> Search:
        generation = options.over(self._answerer.generation)
        profile = DECODING[generation.profile]
        penalties = Penalties(
            repetition_penalty=float(profile["repetition_penalty"]),
            no_repeat_ngram_size=int(profile["no_repeat_ngram_size"]),
        )
        common: dict[str, Any] = {
            "eos_id": self._answerer.prompts.eos_id,
            "max_new_tokens": generation.max_new_tokens,
            "penalties": penalties,
        }
        if profile["num_beams"] > 1:
            return BeamSearch(num_beams=int(profile["num_beams"]), **common)
        return LineSearch(temperature=options.temperature, top_p=options.top_p, seed=options.seed, **common)


def stream_answer(answerer: Answerer, question: Question) -> Iterator[Piece]:
    """Answer one question in pieces, on this thread."""
    conversation = Conversation(answerer)
    yield from (piece for _, piece in conversation.begin([question]))
    while conversation.open:
        yield from (piece for _, piece in conversation.go_on())
