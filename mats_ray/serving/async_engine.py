"""A generation engine on an event loop: its events are awaited, cancelled callers cancel requests."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from mats_ray.config.answer import AnswerOptions
from mats_ray.infer.conversation import Question
from mats_ray.infer.engine import AnswerEngine, Event, Finished
from mats_ray.infer.load import Load
from mats_ray.infer.pipeline import Answerer
from mats_ray.serving.types import AnswerDelta, AnswerResult, ModelCard


class AsyncEngine:
    """Adapts an engine's callbacks, called on its own thread, to coroutines.

    Args:
        engine: Generates.
        answerer: The same model, to count prompt tokens.
        model: The identity written into results.
    """

    def __init__(self, engine: AnswerEngine, answerer: Answerer, model: ModelCard) -> None:
        self._engine, self._answerer, self.model = engine, answerer, model

    def check_health(self) -> None:
        """Return if the engine can answer.

        Raises:
            EngineError: It has stopped.
        """
        self._engine.check_health()

    @property
    def load(self) -> Load:
        """Numbers of answers running and waiting."""
        return self._engine.load

    async def answer(self, embedding_C: np.ndarray, instruction: str, options: AnswerOptions) -> AnswerResult:
        """Answer one instruction about one embedding (C,)."""
        request = Question(embedding_C=embedding_C, instruction=instruction, options=options, in_pieces=False)
        async with self._submitted(request) as events:
            event = await events.get()
            assert not isinstance(event, str), "no deltas were requested"
            return self._result(event, instruction)

    async def stream(
        self, embedding_C: np.ndarray, instruction: str, options: AnswerOptions
    ) -> AsyncGenerator[AnswerDelta | AnswerResult, None]:
        """Yield the answer in deltas, then the result; texts that wait together are one delta."""
        request = Question(embedding_C=embedding_C, instruction=instruction, options=options)
        async with self._submitted(request) as events:
            while True:
                batch = [await events.get()]
                while not events.empty():
                    batch.append(events.get_nowait())
                if text := "".join(event for event in batch if isinstance(event, str)):
                    yield AnswerDelta(text, self.model)
                if not isinstance(batch[-1], str):
                    yield self._result(batch[-1], instruction)
                    return

    @asynccontextmanager
    async def _submitted(self, request: Question) -> AsyncIterator["asyncio.Queue[Event]"]:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()

        def on_event(event: Event) -> None:
            if request.in_pieces or not isinstance(event, str):
                loop.call_soon_threadsafe(events.put_nowait, event)

        self._engine.submit(request, on_event)
        try:
            yield events
        finally:
            self._engine.cancel(request)

    def _result(self, event: Finished | Exception, instruction: str) -> AnswerResult:
        """Return the result in the last event of a request, or raise its error."""
        if isinstance(event, Exception):
            raise event
        return AnswerResult(
            answer=event.answer,
            model=self.model,
            prompt_tokens=self._answerer.count_prompt(instruction),
            queue_seconds=event.waited_seconds,
            batch_size=event.batch_size,
        )
