"""A thread that answers: whoever asks gets pieces as they come, and may go away at any time.

Questions wait in a queue until a place in the batch is free, never for the batch to end.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mats_ray.infer.conversation import Conversation, Question
from mats_ray.infer.load import Load
from mats_ray.infer.pipeline import Answerer
from mats_ray.infer.spoken import Piece
from mats_ray.types import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A whole answer, and how it came about."""

    answer: Answer
    waited_seconds: float
    """For a place in the batch."""
    batch_size: int
    """Answers under way when this one was complete, itself among them."""


Said = str | Finished | Exception
Listener = Callable[[Said], None]
"""Called on the engine's thread: pieces of text in order, then the answer; or an error, and then no more."""


@dataclass(slots=True)
class _Asker:
    listener: Listener
    asked: float
    waited: float = 0.0


class AnswerEngine:
    """Continuous batching behind a queue.

    Args:
        answerer: The model.
        max_answers: Answers under way at once; a beam search counts as one.
        steps_between_joins: Reading a prompt costs a pass of its own, in which the others stand still: those
            that come within so many steps are read together.
    """

    def __init__(self, answerer: Answerer, *, max_answers: int, steps_between_joins: int = 4) -> None:
        self._answerer, self._max_answers = answerer, max_answers
        self._steps_between_joins, self._steps_since_join = steps_between_joins, 0
        self._conversation = Conversation(answerer)
        self._changed = threading.Condition()
        self._waiting: deque[Question] = deque()
        self._askers: dict[Question, _Asker] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="answer-engine", daemon=True)
        self._thread.start()

    @property
    def load(self) -> Load:
        """How busy it is right now."""
        return Load(answering=len(self._conversation), waiting=len(self._waiting))

    def ask(self, question: Question, listener: Listener) -> None:
        """Put a question into the queue."""
        with self._changed:
            self._askers[question] = _Asker(listener, time.monotonic())
            self._waiting.append(question)
            self._changed.notify()

    def forget(self, question: Question) -> None:
        """Free the place of a question whose asker has gone; one that is answered already is no matter."""
        with self._changed:
            self._askers.pop(question, None)
            self._changed.notify()

    def close(self) -> None:
        """End the thread; what is under way is not answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while (admitted := self._admit()) is not None:
            if admitted:
                self._begin(admitted)
            if len(self._conversation):
                self._go_on()

    def _admit(self) -> list[Question] | None:
        """Wait for something to do; returns the questions that may begin, None to end."""
        with self._changed:
            while not (self._closed or self._waiting or len(self._conversation)):
                self._changed.wait()
            if self._closed:
                return None
            for question in self._conversation.open:
                if question not in self._askers:
                    self._conversation.leave(question)
            self._steps_since_join += 1
            if len(self._conversation) and self._steps_since_join < self._steps_between_joins:
                return []
            return self._next()

    def _next(self) -> list[Question]:
        """Take those off the queue for whom there is a place, and who are still there."""
        admitted: list[Question] = []
        room = self._max_answers - len(self._conversation)
        while self._waiting and len(admitted) < room:
            asker = self._askers.get(question := self._waiting.popleft())
            if asker is not None:
                asker.waited = time.monotonic() - asker.asked
                admitted.append(question)
        if admitted:
            self._steps_since_join = 0
        return admitted

    def _begin(self, questions: list[Question]) -> None:
        """Read questions together; if that fails, one by one, so that the bad one fails alone."""
        try:
            pieces = self._conversation.begin(questions)
        except Exception as error:  # noqa: BLE001  whatever it is, whoever asked must hear of it
            if len(questions) == 1:
                self._tell(questions[0], error)
                return
            for question in questions:
                self._begin([question])
            return
        self._tell_all(pieces)

    def _go_on(self) -> None:
        try:
            pieces = self._conversation.go_on()
        except Exception as error:  # noqa: BLE001
            lost, self._conversation = self._conversation.open, Conversation(self._answerer)
            for question in lost:
                self._tell(question, error)
            return
        self._tell_all(pieces)

    def _tell_all(self, pieces: Sequence[tuple[Question, Piece]]) -> None:
        size = len(self._conversation) + sum(piece.answer is not None for _, piece in pieces)
        for question, piece in pieces:
            if piece.text:
                self._tell(question, piece.text)
            if piece.answer is not None:
                asker = self._askers.get(question)
                waited = asker.waited if asker is not None else 0.0
                self._tell(question, Finished(answer=piece.answer, waited_seconds=waited, batch_size=size))

    def _tell(self, question: Question, said: Said) -> None:
        with self._changed:
            is_last = not isinstance(said, str)
            asker = self._askers.pop(question, None) if is_last else self._askers.get(question)
        if asker is not None:
            asker.listener(said)
