"""Between an event loop and the engine's thread: whoever goes away takes its question along."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from mats_ray.config.answer import AnswerOptions
from mats_ray.infer.conversation import Question
from mats_ray.infer.engine import AnswerEngine, Event, Finished
from mats_ray.infer.load import Load
from mats_ray.infer.pipeline import Answerer
from mats_ray.serving.types import Told


class Teller:
    """Answers on an event loop.

    Args:
        engine: Computes on its own thread.
        answerer: The same model, to count prompts.
    """

    def __init__(self, engine: AnswerEngine, answerer: Answerer) -> None:
        self._engine, self._answerer = engine, answerer

    def check_health(self) -> None:
        """Return if the engine answers.

        Raises:
            EngineError: It has stopped.
        """
        self._engine.check_health()

    @property
    def load(self) -> Load:
        """How busy the engine is."""
        return self._engine.load

    async def answer(self, embedding_C: np.ndarray, instruction: str, options: AnswerOptions) -> Told:
        """Answer one instruction about one embedding (C,)."""
        loop = asyncio.get_running_loop()
        whole: asyncio.Future[Finished] = loop.create_future()

        def listen(event: Event) -> None:
            if not isinstance(event, str):
                loop.call_soon_threadsafe(_settle, whole, event)

        question = Question(
            embedding_C=embedding_C, instruction=instruction, options=options, in_pieces=False
        )
        self._engine.submit(question, listen)
        try:
            return self._told(await whole, instruction)
        finally:
            self._engine.cancel(question)

    async def stream(
        self, embedding_C: np.ndarray, instruction: str, options: AnswerOptions
    ) -> AsyncGenerator[str | Told, None]:
        """Answer in pieces; what has come while nobody looked is one piece; the last item is the whole."""
        question = Question(embedding_C=embedding_C, instruction=instruction, options=options)
        async with self._submitted(question) as events:
            while True:
                batch = [await events.get()]
                while not events.empty():
                    batch.append(events.get_nowait())
                if text := "".join(event for event in batch if isinstance(event, str)):
                    yield text
                if isinstance(batch[-1], Exception):
                    raise batch[-1]
                if isinstance(batch[-1], Finished):
                    yield self._told(batch[-1], instruction)
                    return

    @asynccontextmanager
    async def _submitted(self, question: Question) -> AsyncIterator["asyncio.Queue[Event]"]:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()
        self._engine.submit(
            question, lambda event: loop.call_soon_threadsafe(events.put_nowait, event) and None
        )
        try:
            yield events
        finally:
            self._engine.cancel(question)

    def _told(self, finished: Finished, instruction: str) -> Told:
        return Told(
            answer=finished.answer,
            prompt_tokens=self._answerer.count_prompt(instruction),
            waited_seconds=finished.waited_seconds,
            batch_size=finished.batch_size,
        )


def _settle(whole: "asyncio.Future[Finished]", event: Finished | Exception) -> None:
    if whole.done():  # nobody waits any more
        return
    if isinstance(event, Exception):
        whole.set_exception(event)
    else:
        whole.set_result(event)
