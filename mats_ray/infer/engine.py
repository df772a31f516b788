"""Interface between the code that needs generated text and the engines that generate it.

The pipeline, the caption job and the service submit requests and receive events; the engine decides whether
the language model runs on a thread of this process (``batching.py``) or elsewhere. This module is torch-free.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol
from uuid import uuid4

import numpy as np

from mats_ray.config.answer import AnswerOptions
from mats_ray.errors import AnswerError
from mats_ray.types import Answer


@dataclass(frozen=True, eq=False, kw_only=True)
class GenerationRequest:
    """One instruction about one embedding."""

    embedding_C: np.ndarray
    """Audio embedding, before Santa."""
    instruction: str
    options: AnswerOptions = field(default_factory=AnswerOptions)
    stream: bool = True
    """False: only the whole answer is reported, which saves detokenizing at every step."""
    id: str = field(default_factory=lambda: uuid4().hex)
    """Id of the request in every process; no two open requests of an engine share it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """New text of an answer."""

    text: str
    answer: Answer | None = None
    """The whole answer, with the last delta of a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A complete answer and how it was computed."""

    answer: Answer
    prompt_tokens: int
    """Number of positions of the prompt, the audio prefix among them."""
    queue_seconds: float
    """Time between submission and the request's first forward pass."""
    batch_size: int
    """Number of answers in the batch when this one was completed, itself among them."""


GenerationEvent = TextDelta | Generation | Exception
Listener = Callable[[GenerationEvent], None]
"""Called on a thread of the engine: deltas in order, then the generation or an error, then nothing more."""


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """Numbers of open requests."""

    running: int
    waiting: int


class GenerationEngine(Protocol):
    """Generates text for many requests at once; each fails, ends or is cancelled alone."""

    def submit(self, request: GenerationRequest, on_event: Listener) -> None:
        """Queue a request.

        Raises:
            AnswerError: It cannot be answered, see ``Answerer.check``.
            EngineError: The engine has stopped.
            ValueError: A request with its id is open.
        """
        ...

    def submit_many(self, requests: Sequence[tuple[GenerationRequest, Listener]]) -> None:
        """Queue requests together; one that cannot be answered gets its error as an event.

        Raises:
            EngineError: The engine has stopped.
        """
        for request, on_event in requests:
            try:
                self.submit(request, on_event)
            except AnswerError as error:
                on_event(error)

    def cancel(self, request_id: str) -> None:
        """Give up a request; without effect on one that is complete or unknown."""
        ...

    def load(self) -> EngineLoad:
        """Return the numbers of open requests."""
        ...

    def check_health(self) -> None:
        """Return if the engine can generate.

        Raises:
            EngineError: It has stopped.
        """
        ...

    def close(self) -> None:
        """Stop for good; open requests end with an ``EngineError``."""
        ...


def generate(engine: GenerationEngine, requests: Sequence[GenerationRequest]) -> list[Generation | Exception]:
    """Submit requests and wait for all; returns the generation or error of each, in order.

    Raises:
        EngineError: The engine has stopped.
    """
    ends = {request.id: SimpleQueue[Generation | Exception]() for request in requests}

    def listener(request: GenerationRequest) -> Listener:
        end = ends[request.id]
        return lambda event: None if isinstance(event, TextDelta) else end.put(event)

    try:
        engine.submit_many([(request, listener(request)) for request in requests])
        return [end.get() for end in ends.values()]
    finally:
        for request in requests:  # without effect unless this thread was interrupted
            engine.cancel(request.id)


def stream(engine: GenerationEngine, request: GenerationRequest) -> Iterator[TextDelta]:
    """Submit a request and yield its text; the last delta holds the whole answer.

    Raises:
        AnswerError: The request cannot be answered.
        EngineError: The engine has stopped.
    """
    events = SimpleQueue[GenerationEvent]()
    engine.submit(request, events.put)
    try:
        while isinstance(event := events.get(), TextDelta):
            yield event
        if isinstance(event, Exception):
            raise event
        yield TextDelta(text="", answer=event.answer)
    finally:
        engine.cancel(request.id)
