"""A thread that answers: whoever asks gets pieces as they come, and may go away at any time.

Questions wait in a queue until a place in the batch is free, never for the batch to end.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mats_ray.infer.conversation import Conversation, Question
from mats_ray.infer.pipeline import Answerer
from mats_ray.infer.spoken import Piece

Listener = Callable[[Piece | Exception], None]
"""Called on the engine's thread: pieces in order, the last with the answer; or an error, and then no more."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an engine is."""

    answering: int
    waiting: int


class AnswerEngine:
    """Continuous batching behind a queue.

    Args:
        answerer: The model.
        max_answers: Answers under way at once; a beam search counts as one.
    """

    def __init__(self, answerer: Answerer, *, max_answers: int) -> None:
        self._answerer, self._max_answers = answerer, max_answers
        self._conversation = Conversation(answerer)
        self._changed = threading.Condition()
        self._waiting: deque[Question] = deque()
        self._listeners: dict[Question, Listener] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="answer-engine", daemon=True)
        self._thread.start()

    @property
    def load(self) -> Load:
        """How busy it is right now."""
        return Load(answering=len(self._conversation.open), waiting=len(self._waiting))

    def ask(self, question: Question, listener: Listener) -> None:
        """Put a question into the queue."""
        with self._changed:
            self._listeners[question] = listener
            self._waiting.append(question)
            self._changed.notify()

    def forget(self, question: Question) -> None:
        """Free the place of a question whose asker has gone; one that is answered already is no matter."""
        with self._changed:
            self._listeners.pop(question, None)
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
            if self._conversation.open:
                self._go_on()

    def _admit(self) -> list[Question] | None:
        """Wait for something to do; returns the questions that may begin, None to end."""
        with self._changed:
            while not (self._closed or self._waiting or self._conversation.open):
                self._changed.wait()
            if self._closed:
                return None
            for question in self._conversation.open:
                if question not in self._listeners:
                    self._conversation.leave(question)
            admitted: list[Question] = []
            room = self._max_answers - len(self._conversation.open)
            while self._waiting and len(admitted) < room:
                if (question := self._waiting.popleft()) in self._listeners:
                    admitted.append(question)
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
        for question, piece in pieces:
            self._tell(question, piece)

    def _go_on(self) -> None:
        try:
            pieces = self._conversation.go_on()
        except Exception as error:  # noqa: BLE001
            lost, self._conversation = self._conversation.open, Conversation(self._answerer)
            for question in lost:
                self._tell(question, error)
            return
        for question, piece in pieces:
            self._tell(question, piece)

    def _tell(self, question: Question, said: Piece | Exception) -> None:
        is_last = isinstance(said, Exception) or said.answer is not None
        with self._changed:
            listener = (
                self._listeners.pop(question, None) if is_last else self._listeners.get(question)
            )
        if listener is not None:
            listener(said)
