"""A thread that answers requests: listeners get pieces as they come, and may go away at any time.

Questions wait in a queue until a place in the batch is free, never for the batch to end. What one of them
fails by ends that one alone: its prompt, its text, its listener. If nothing that was under way can be
computed, the model itself is tried; where that fails too, or something happens that belongs to no answer, the
engine stops for good: every open question gets its error, later ones are refused.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mats_ray.errors import EngineError
from mats_ray.infer.conversation import Conversation, Outcome, Question, check_model
from mats_ray.infer.load import Load
from mats_ray.infer.pipeline import Answerer
from mats_ray.types import Answer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A whole answer, and how it came about."""

    answer: Answer
    waited_seconds: float
    """For a place in the batch."""
    batch_size: int
    """Answers under way when this one was complete, itself among them."""


Event = str | Finished | Exception
Listener = Callable[[Event], None]
"""Called on the engine's thread: pieces of text in order, then the answer; or an error, and then no more."""


@dataclass(slots=True)
class _Entry:
    listener: Listener
    submitted: float
    waited: float = 0.0
    begun: bool = False


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
        self._entries: dict[Question, _Entry] = {}
        self._closed = False
        self._stopped = "the answering engine has stopped"
        self._thread = threading.Thread(target=self._run, name="answer-engine", daemon=True)
        self._thread.start()

    @property
    def load(self) -> Load:
        """How busy it is right now."""
        return Load(answering=len(self._conversation), waiting=len(self._waiting))

    def submit(self, question: Question, listener: Listener) -> None:
        """Put a question into the queue.

        Raises:
            AnswerError: It cannot be answered, see ``Answerer.check``.
            EngineError: The engine has stopped.
        """
        generation = question.options.over(self._answerer.generation)
        self._answerer.check(question.embedding_C, question.instruction, generation)
        with self._changed:
            self._check()
            self._entries[question] = _Entry(listener, time.monotonic())
            self._waiting.append(question)
            self._changed.notify()

    def cancel(self, question: Question) -> None:
        """Free the place of a question that nobody waits for; one that is answered already is no matter."""
        with self._changed:
            self._entries.pop(question, None)
            self._changed.notify()

    def check_health(self) -> None:
        """Return if the engine answers.

        Raises:
            EngineError: It has stopped.
        """
        with self._changed:
            self._check()

    def close(self) -> None:
        """End the thread; what is under way gets an error."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _check(self) -> None:
        if self._closed:
            raise EngineError(self._stopped)

    def _run(self) -> None:
        """Work until closed; whatever ends the thread, nobody is left waiting."""
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  the thread has no caller who would see it
            _log.critical("the engine has stopped", exc_info=error)
            self._stopped += f": {type(error).__name__}"
        finally:
            self._stop()

    def _stop(self) -> None:
        with self._changed:
            self._closed = True
            entries, self._entries = self._entries, {}
            self._waiting.clear()
        for entry in entries.values():
            with suppress(BaseException):  # it may be a listener that has ended the thread
                entry.listener(EngineError(self._stopped, in_flight=entry.begun))

    def _work(self) -> None:
        while (admitted := self._admit()) is not None:
            if admitted:
                self._deliver(self._begin(admitted))
            self._deliver(self._conversation.go_on())

    def _admit(self) -> list[Question] | None:
        """Wait for something to do; returns the questions that may begin, None to end."""
        with self._changed:
            while not (self._closed or self._waiting or len(self._conversation)):
                self._changed.wait()
            if self._closed:
                return None
            for question in self._conversation.open:
                if question not in self._entries:
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
            entry = self._entries.get(question := self._waiting.popleft())
            if entry is not None:
                entry.waited, entry.begun = time.monotonic() - entry.submitted, True
                admitted.append(question)
        if admitted:
            self._steps_since_join = 0
        return admitted

    def _begin(self, questions: Sequence[Question]) -> list[tuple[Question, Outcome]]:
        """Read questions together; if that fails, in halves, so that those at fault fail alone."""
        try:
            return self._conversation.begin(questions)
        except Exception as error:  # noqa: BLE001  whatever it is, it may belong to one of them
            if len(questions) == 1:
                return [(questions[0], error)]
        middle = len(questions) // 2
        return self._begin(questions[:middle]) + self._begin(questions[middle:])

    def _deliver(self, outcomes: Sequence[tuple[Question, Outcome]]) -> None:
        """Tell the listeners; if there is nothing but errors, find out whether the model is to blame."""
        done = sum(
            not isinstance(outcome, Exception) and outcome.answer is not None for _, outcome in outcomes
        )
        size = len(self._conversation) + done
        for question, outcome in outcomes:
            entry = self._entries.get(question)
            if entry is None:  # cancelled
                continue
            if isinstance(outcome, Exception):
                events: list[Event] = [outcome]
            else:
                events = [outcome.text] if outcome.text else []
                if outcome.answer is not None:
                    events.append(
                        Finished(answer=outcome.answer, waited_seconds=entry.waited, batch_size=size)
                    )
            is_last = bool(events) and not isinstance(events[-1], str)
            if not all(_is_taken(event, entry.listener) for event in events) or is_last:
                self.cancel(question)
        if outcomes and all(isinstance(outcome, Exception) for _, outcome in outcomes):
            check_model(self._answerer)


def _is_taken(event: Event, listener: Listener) -> bool:
    """Pass an event on; a listener that raises ends its own answer, no other."""
    try:
        listener(event)
    except Exception:  # noqa: BLE001  whatever it is
        _log.exception("a listener failed; its answer is given up")
        return False
    return True
