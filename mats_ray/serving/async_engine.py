"""A generation engine on an event loop: its events are awaited, cancelled callers cancel requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from mats_ray.config.answer import AnswerOptions
from mats_ray.infer.engine import (
    EngineLoad,
    Generation,
    GenerationEngine,
    GenerationEvent,
    GenerationRequest,
    TextDelta,
)
from mats_ray.serving.types import AnswerDelta, AnswerEvents, AnswerResult, ModelCard


class AsyncEngine:
    """Adapts an engine's callbacks, called on its own thread, to coroutines.

    Args:
        engine: Generates.
        model: The identity written into results.
    """

    def __init__(self, engine: GenerationEngine, model: ModelCard) -> None:
        self._engine, self.model = engine, model

    def check_health(self) -> None:
        """Return if the engine can answer.

        Raises:
            EngineError: It has stopped.
        """
        self._engine.check_health()

    @property
    def load(self) -> EngineLoad:
        """Numbers of answers running and waiting."""
        return self._engine.load()

    async def answer(self, embedding_C: np.ndarray, instruction: str, options: AnswerOptions) -> AnswerResult:
        """Answer one instruction about one embedding (C,)."""
        request = GenerationRequest(
            embedding_C=embedding_C, instruction=instruction, options=options, stream=False
        )
        async with self._submitted(request) as events:
            event = await events.get()
            assert not isinstance(event, TextDelta), "no deltas were requested"
            return self._result(event)

    async def stream(self, embedding_C: np.ndarray, instruction: str, options: AnswerOptions) -> AnswerEvents:
        """Yield the answer in deltas, then the result; texts that wait together are one delta."""
        request = GenerationRequest(embedding_C=embedding_C, instruction=instruction, options=options)
        async with self._submitted(request) as events:
            while True:
                batch = [await events.get()]
                while not events.empty():
                    batch.append(events.get_nowait())
                if text := "".join(event.text for event in batch if isinstance(event, TextDelta)):
                    yield AnswerDelta(text, self.model)
                if not isinstance(batch[-1], TextDelta):
                    yield self._result(batch[-1])
                    return

    @asynccontextmanager
    async def _submitted(self, request: GenerationRequest) -> AsyncIterator["asyncio.Queue[GenerationEvent]"]:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[GenerationEvent] = asyncio.Queue()

        def on_event(event: GenerationEvent) -> None:
            if request.stream or not isinstance(event, TextDelta):
                loop.call_soon_threadsafe(events.put_nowait, event)

        self._engine.submit(request, on_event)
        try:
            yield events
        finally:
            self._engine.cancel(request.id)

    def _result(self, event: Generation | Exception) -> AnswerResult:
        """Return the result in the last event of a request, or raise its error."""
        if isinstance(event, Exception):
            raise event
        return AnswerResult(
            answer=event.answer,
            model=self.model,
            prompt_tokens=event.prompt_tokens,
            queue_seconds=event.queue_seconds,
            batch_size=event.batch_size,
        )
