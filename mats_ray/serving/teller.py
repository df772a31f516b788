"""Between an event loop and the engine's thread: whoever goes away takes its question along."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from mats_ray.config.answer import AnswerOptions
from mats_ray.infer.conversation import Question
from mats_ray.infer.engine import AnswerEngine, Finished, Said
from mats_ray.infer.load import Load
from mats_ray.infer.pipeline import Answerer
from mats_ray.serving.parts import Told


class Teller:
    """Answers on an event loop.

    Args:
        engine: Computes on its own thread.
        answerer: The same model, to count prompts.
    """

    def __init__(self, engine: AnswerEngine, answerer: Answerer) -> None:
        self._engine, self._answerer = engine, answerer

    @property
    def load(self) -> Load:
        """How busy the engine is."""
        return self._engine.load

    async def answer(self, embedding_C: np.ndarray, instruction: str, options: AnswerOptions) -> Told:
        """Answer one instruction about one embedding (C,)."""
        loop = asyncio.get_running_loop()
        whole: asyncio.Future[Finished] = loop.create_future()

        def hear(said: Said) -> None:
            if not isinstance(said, str):
                loop.call_soon_threadsafe(_settle, whole, said)

        question = Question(
            embedding_C=embedding_C, instruction=instruction, options=options, in_pieces=False
        )
        self._engine.ask(question, hear)
        try:
            return self._told(await whole, instruction)
        finally:
            self._engine.forget(question)

    async def stream(
        self, embedding_C: np.ndarray, instruction: str, options: AnswerOptions
    ) -> AsyncGenerator[str | Told, None]:
        """Answer in pieces; what has come while nobody looked is one piece; the last item is the whole."""
        question = Question(embedding_C=embedding_C, instruction=instruction, options=options)
        async with self._asking(question) as heard:
            while True:
                batch = [await heard.get()]
                while not heard.empty():
                    batch.append(heard.get_nowait())
                if text := "".join(said for said in batch if isinstance(said, str)):
                    yield text
                if isinstance(batch[-1], Exception):
                    raise batch[-1]
                if isinstance(batch[-1], Finished):
                    yield self._told(batch[-1], instruction)
                    return

    @asynccontextmanager
    async def _asking(self, question: Question) -> AsyncIterator["asyncio.Queue[Said]"]:
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[Said] = asyncio.Queue()
        self._engine.ask(question, lambda said: loop.call_soon_threadsafe(heard.put_nowait, said) and None)
        try:
            yield heard
        finally:
            self._engine.forget(question)

    def _told(self, finished: Finished, instruction: str) -> Told:
        return Told(
            answer=finished.answer,
            prompt_tokens=self._answerer.count_prompt(instruction),
            waited_seconds=finished.waited_seconds,
            batch_size=finished.batch_size,
        )


def _settle(whole: "asyncio.Future[Finished]", said: Finished | Exception) -> None:
    if whole.done():  # its asker has gone
        return
    if isinstance(said, Exception):
        whole.set_exception(said)
    else:
        whole.set_result(said)
