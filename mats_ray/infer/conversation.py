"""Many answers at once, each begun, told in pieces and ended on its own: ``StepDecoder`` with words.

Answers equal ``Answerer.answer``'s, token for token in float32, whatever else is under way.

Shapes: N new questions, C CLAP dim.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.generation import PROFILES, GenerationConfig
from mats_ray.infer.detokenizer import Piece, Spoken
from mats_ray.infer.pipeline import Answerer
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


Outcome = Piece | Exception
"""What comes of an answer: a piece of it, or what ended it."""


class Conversation:
    """Answers under way; what one of them fails by ends that one alone.

    Example::

        conversation = Conversation(answerer)
        conversation.begin([Question(embedding_C=embedding, instruction="Is there a dog?")])
        while conversation.open:
            for question, outcome in conversation.go_on(): ...
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

    def begin(self, questions: Sequence[Question]) -> list[tuple[Question, Outcome]]:
        """Read new questions together; returns what that alone lets one say, and which of them failed.

        Raises:
            AnswerError, ConfigError: A question cannot be answered; then none has begun, as after whatever
                else is raised, and the caller may try fewer of them.
        """
        answerer = self._answerer
        new: dict[Question, tuple[Search, Spoken]] = {}
        after_ids: list[list[int]] = []
        for question in questions:
            generation = question.options.over(answerer.generation)
            after_ids.append(answerer.check(question.embedding_C, question.instruction, generation))
            spoken = Spoken(answerer.prompts.decode, stop=question.options.stop)
            new[question] = self._search(question.options, generation), spoken
        failed = self._decoder.add(self._moved(questions), after_ids, [search for search, _ in new.values()])
        self._open |= new
        return list(self._outcomes(failed))

    def go_on(self) -> list[tuple[Question, Outcome]]:
        """Compute one more token of every answer; returns what can be said now, and which answers failed."""
        return list(self._outcomes(self._decoder.step()))

    def leave(self, question: Question) -> None:
        """Forget a question nobody waits for any more."""
        search, _ = self._open.pop(question)
        self._decoder.drop(search)

    def _outcomes(self, failed: Mapping[Search, Exception]) -> Iterator[tuple[Question, Outcome]]:
        active = set(self._decoder.active)
        for question, (search, spoken) in list(self._open.items()):
            try:
                outcome = failed.get(search) or self._piece(question, search, spoken, going=search in active)
            except Exception as error:  # noqa: BLE001  ids that make no text are this answer's trouble alone
                outcome = error
            if isinstance(outcome, Exception) or (outcome is not None and outcome.answer is not None):
                self.leave(question)
            if outcome is not None:
                yield question, outcome

    def _piece(self, question: Question, search: Search, spoken: Spoken, *, going: bool) -> Piece | None:
        if not going:
            return spoken.finish(search.ids, ended=search.ended)
        return spoken.hear(search.ids) if question.in_pieces or question.options.stop else None

    def _moved(self, questions: Sequence[Question]) -> torch.Tensor:
        """(N, C) after Santa, which takes as long for many as for one."""
        alike = groupby(questions, key=lambda question: question.options.santa)
        return torch.cat(
            [
                self._answerer.move(np.stack([one.embedding_C for one in group]), santa=santa)
                for santa, group in alike
            ]
        )

    def _search(self, options: AnswerOptions, generation: GenerationConfig) -> Search:
        profile = PROFILES[generation.profile]
        penalties = Penalties(
            repetition_penalty=profile.repetition_penalty,
            no_repeat_ngram_size=profile.no_repeat_ngram_size,
        )
        common: dict[str, Any] = {
            "eos_id": self._answerer.prompts.eos_id,
            "max_new_tokens": generation.max_new_tokens,
            "penalties": penalties,
        }
        if profile.num_beams > 1:
            return BeamSearch(num_beams=profile.num_beams, **common)
        return LineSearch(temperature=options.temperature, top_p=options.top_p, seed=options.seed, **common)


def stream_answer(answerer: Answerer, question: Question) -> Iterator[Piece]:
    """Answer one question in pieces, on this thread.

    Raises:
        AnswerError, ConfigError: It cannot be answered.
    """
    conversation = Conversation(answerer)
    outcomes = conversation.begin([question])
    while outcomes or conversation.open:
        for _, outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome
        outcomes = conversation.go_on() if conversation.open else []


def check_model(answerer: Answerer) -> None:
    """Compute one token about nothing; raises whatever keeps the model from it."""
    options = AnswerOptions(profile="fast", max_new_tokens=1, santa=False)
    embedding_C = np.ones(answerer.model.connector.clap_dim, np.float32)
    for _ in stream_answer(answerer, Question(embedding_C=embedding_C, instruction="", options=options)):
        pass
