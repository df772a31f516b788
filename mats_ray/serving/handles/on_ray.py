"""Calls through Serve's handles: repeated when a replica dies, cancelled when nobody waits for them.

An answer is the same each time it is computed, so a call may be repeated, even one half told.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from mats_ray.config.answer import AnswerOptions
from mats_ray.errors import MATSError
from mats_ray.serving.parts import ModelCard, Told
from mats_ray.serving.problems import RequestError
from mats_ray.types import AudioClip

ResultT = TypeVar("ResultT")
_DEAD = (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0


class Patience:
    """How long a call is repeated.

    Args:
        seconds: From now on; 0 never repeats.
        on_retry: Told of each repetition.
        sleep: Waits between two.
    """

    def __init__(
        self,
        seconds: float,
        on_retry: Callable[[], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._until = time.monotonic() + seconds
        self._on_retry, self._sleep = on_retry, sleep
        self._pause = _FIRST_PAUSE_SECONDS

    async def wait(self, error: Exception) -> None:
        """Wait a while after an error, longer each time.

        Raises:
            RequestError: The error is no replica's death, or it has been long enough.
        """
        if not isinstance(error, _DEAD) or time.monotonic() + self._pause > self._until:
            raise_as_ours(error)
        self._on_retry()
        await self._sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)


class _Remote:
    def __init__(
        self,
        handle: DeploymentHandle,
        *,
        retry_seconds: float = 0.0,
        on_retry: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._handle, self._retry_seconds, self._on_retry = handle, retry_seconds, on_retry

    def _patience(self) -> Patience:
        return Patience(
            self._retry_seconds, lambda: self._on_retry(type(self).__name__.removeprefix("Remote"))
        )

    async def _call(self, method: Any, *args: Any) -> Any:
        patience = self._patience()
        while True:
            response = method.remote(*args)
            try:
                return await response
            except asyncio.CancelledError:
                response.cancel()
                raise
            except Exception as error:  # noqa: BLE001  sorted out there
                await patience.wait(error)


class RemoteEncoder(_Remote):
    """The encoder behind a handle."""

    async def encode(self, clip: AudioClip) -> np.ndarray:
        """Embed one clip: (C,) float32."""
        return await self._call(self._handle.encode, clip)

    async def encode_labels(self, labels: Sequence[str]) -> np.ndarray:
        """Embed texts: (N, C) float32."""
        return await self._call(self._handle.encode_labels, list(labels))


class RemoteAnswerer(_Remote):
    """The answerer behind a handle."""

    async def answer(self, embedding: np.ndarray, instruction: str, options: AnswerOptions) -> Told:
        """Answer one instruction about one embedding (C,)."""
        return await self._call(self._handle.answer, embedding, instruction, options)

    async def describe(self) -> ModelCard:
        """Say which model this is."""
        return await self._call(self._handle.describe)

    async def stream(
        self, embedding: np.ndarray, instruction: str, options: AnswerOptions
    ) -> AsyncGenerator[str | Told, None]:
        """Answer in pieces; a replica that dies midway is replaced by one that says the same again."""
        patience, said = self._patience(), 0
        while True:
            skip = said
            method: Any = self._handle.options(stream=True).stream
            pieces = method.remote(embedding, instruction, options)
            try:
                async for piece in pieces:
                    if isinstance(piece, Told):
                        yield piece
                        return
                    news, skip = piece[skip:], max(0, skip - len(piece))
                    said += len(news)
                    if news:
                        yield news
            except (asyncio.CancelledError, GeneratorExit):
                pieces.cancel()
                raise
            except Exception as error:  # noqa: BLE001  sorted out there
                await patience.wait(error)


def raise_as_ours(error: Exception) -> None:
    """Raise what Ray says about a call as what a client may read.

    Raises:
        RequestError: The queue is full, or the model is not there.
        MATSError: The replica raised it.
    """
    if isinstance(error, BackPressureError):
        raise RequestError("too many requests are waiting for the model", code="overloaded") from None
    if isinstance(error, _DEAD):
        raise RequestError("the model is not running at the moment", code="unavailable") from error
    if isinstance(error, RayTaskError) and isinstance(error.cause, MATSError):
        raise error.cause from None
    raise error  # a remote error's text holds its traceback, for the log
