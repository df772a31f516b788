"""Between an event loop and the engine's thread: whoever goes away takes its question along."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
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
from mats_ray.serving.types import Told


class Teller:
    """Answers on an event loop.

    Args:
        engine: Computes on its own thread.
    """

    def __init__(self, engine: GenerationEngine) -> None:
        self._engine = engine

    def check_health(self) -> None:
        """Return if the engine answers.

        Raises:
            EngineError: It has stopped.
        """
        self._engine.check_health()

    @property
    def load(self) -> EngineLoad:
        """How busy the engine is."""
        return self._engine.load()

    async def answer(self, embedding_C: np.ndarray, instruction: str, options: AnswerOptions) -> Told:
        """Answer one instruction about one embedding (C,)."""
        loop = asyncio.get_running_loop()
        whole: asyncio.Future[Generation] = loop.create_future()

        def listen(event: GenerationEvent) -> None:
            if not isinstance(event, TextDelta):
                loop.call_soon_threadsafe(_settle, whole, event)

        request = GenerationRequest(
            embedding_C=embedding_C, instruction=instruction, options=options, stream=False
        )
        self._engine.submit(request, listen)
        try:
            return self._told(await whole)
        finally:
            self._engine.cancel(request.id)

    async def stream(
        self, embedding_C: np.ndarray, instruction: str, options: AnswerOptions
    ) -> AsyncGenerator[str | Told, None]:
        """Answer in pieces; what has come while nobody looked is one piece; the last item is the whole."""
        request = GenerationRequest(embedding_C=embedding_C, instruction=instruction, options=options)
        async with self._submitted(request) as events:
            while True:
                batch = [await events.get()]
                while not events.empty():
                    batch.append(events.get_nowait())
                if text := "".join(event.text for event in batch if isinstance(event, TextDelta)):
                    yield text
                if isinstance(batch[-1], Exception):
                    raise batch[-1]
                if isinstance(batch[-1], Generation):
                    yield self._told(batch[-1])
                    return

    @asynccontextmanager
    async def _submitted(self, request: GenerationRequest) -> AsyncIterator["asyncio.Queue[GenerationEvent]"]:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[GenerationEvent] = asyncio.Queue()
        self._engine.submit(
            request, lambda event: loop.call_soon_threadsafe(events.put_nowait, event) and None
        )
        try:
            yield events
        finally:
            self._engine.cancel(request.id)

    def _told(self, finished: Generation) -> Told:
        return Told(
            answer=finished.answer,
            prompt_tokens=finished.prompt_tokens,
            waited_seconds=finished.queue_seconds,
            batch_size=finished.batch_size,
        )


def _settle(whole: "asyncio.Future[Generation]", event: Generation | Exception) -> None:
    if whole.done():  # nobody waits any more
        return
    if isinstance(event, Exception):
        whole.set_exception(event)
    else:
        whole.set_result(event)
