"""Calls through Serve's handles: repeated when a replica dies, cancelled with their caller.

An answer is the same each time it is computed, so a call may be repeated, even one half streamed. But the
call may be what the replica died of: one that was in flight at a death is repeated once and no more, so that
no request kills one replica after another. Serve repeats no call that a replica has accepted.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from grpc import StatusCode
from grpc.aio import AioRpcError
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from mats_ray.config.answer import AnswerOptions
from mats_ray.errors import EngineError, MATSError
from mats_ray.on_ray.errors import own_error
from mats_ray.serving.errors import RequestError
from mats_ray.serving.types import AnswerDelta, AnswerEvents, AnswerResult, Embedding, ModelCard
from mats_ray.types import AudioClip

ErrorT = TypeVar("ErrorT", bound=MATSError)
_MAX_DEATHS = 1
"""Number of replica deaths after which a call that was in flight is still repeated."""
_BROKEN = (StatusCode.UNAVAILABLE, StatusCode.CANCELLED, StatusCode.INTERNAL, StatusCode.UNKNOWN)
"""gRPC statuses of a connection whose other end is gone."""
_STORED_BYTES = 600_000
"""Clips from this size on go through Ray's object store, smaller ones straight to the replica by gRPC: one
then needs 2 ms instead of 5, but with a megabyte more; at 4 MB nothing is saved (benchmarks/serving.md)."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0


class CallRetry:
    """Decides whether one call is repeated, and waits before it is.

    Args:
        seconds: How long a replica is waited for, from now on; 0: the call is never repeated.
        on_retry: Called before each repetition.
        sleep: Waits between two attempts.
    """

    def __init__(
        self,
        seconds: float,
        on_retry: Callable[[], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._deadline = time.monotonic() + seconds
        self._on_retry, self._sleep = on_retry, sleep
        self._pause = _FIRST_PAUSE_SECONDS
        self._deaths = 0

    async def wait_or_raise(self, error: Exception) -> None:
        """Wait after a failed attempt, longer each time.

        Raises:
            RequestError: The error is not the loss of a replica, time is up, or replicas seem to have died of
                this call (``replica_died``).
        """
        self._deaths += _is_death(error)
        if self._deaths > _MAX_DEATHS:
            raise RequestError(
                f"{self._deaths} replicas died while they computed this request; it is not repeated again",
                code="replica_died",
            ) from error
        if not (_is_death(error) or _is_absence(error)) or time.monotonic() + self._pause > self._deadline:
            raise_as_ours(error)
        self._on_retry()
        await self._sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)


class _RetryingHandle:
    """Calls of one deployment.

    Args:
        handle: Serve's.
        retry_seconds: See ``CallRetry``.
        on_retry: Called with the deployment's name before each repetition.
    """

    _DEPLOYMENT: str

    def __init__(
        self,
        handle: DeploymentHandle,
        *,
        retry_seconds: float = 0.0,
        on_retry: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._given, self._retry_seconds, self._on_retry = handle, retry_seconds, on_retry

    @cached_property
    def _handle(self) -> DeploymentHandle:
        """Sends arguments in the call itself. Made when first used: a handle needs a running event loop."""
        return self._given.options(_by_reference=False)

    @cached_property
    def _storing_handle(self) -> DeploymentHandle:
        return self._given.options(_by_reference=True)

    def _new_retry(self) -> CallRetry:
        return CallRetry(self._retry_seconds, lambda: self._on_retry(self._DEPLOYMENT))

    async def _call(self, method: Any, *args: Any) -> Any:
        retry = self._new_retry()
        while True:
            response = method.remote(*args)
            try:
                return await response
            except asyncio.CancelledError:
                response.cancel()
                raise
            except Exception as error:  # noqa: BLE001  sorted out there
                await retry.wait_or_raise(error)


class EncoderHandle(_RetryingHandle):
    """The encoder deployment as an ``EncoderClient``."""

    _DEPLOYMENT = "Encoder"

    async def encode(self, clip: AudioClip) -> Embedding:
        """Embed one clip: (C,) float32."""
        handle = self._storing_handle if clip.samples.nbytes >= _STORED_BYTES else self._handle
        return await self._call(handle.encode, clip)

    async def encode_labels(self, labels: Sequence[str]) -> Embedding:
        """Embed texts: (N, C) float32."""
        return await self._call(self._handle.encode_labels, list(labels))


class AnswererHandle(_RetryingHandle):
    """The answerer deployment as an ``AnswererClient``."""

    _DEPLOYMENT = "Answerer"

    async def answer(self, embedding: Embedding, instruction: str, options: AnswerOptions) -> AnswerResult:
        """Answer one instruction about one embedding (C,)."""
        return await self._call(self._handle.answer, embedding, instruction, options)

    async def describe(self) -> ModelCard:
        """Return the identity of the model that answers now."""
        return await self._call(self._handle.describe)

    async def stream(self, embedding: Embedding, instruction: str, options: AnswerOptions) -> AnswerEvents:
        """Yield the answer in deltas, then the result; after a replica's death another one resumes.

        Raises:
            RequestError: It cannot: meanwhile there is another model.
        """
        retry, resumption = self._new_retry(), _Resumption()
        while True:
            resumption.restart()
            method: Any = self._handle.options(stream=True).stream
            events = method.remote(embedding, instruction, options)
            try:
                async for event in events:
                    if (new := resumption.new_part(event)) is not None:
                        yield new
                    if isinstance(event, AnswerResult):
                        return
            except (asyncio.CancelledError, GeneratorExit):
                events.cancel()
                raise
            except Exception as error:  # noqa: BLE001  sorted out there
                await retry.wait_or_raise(error)


class _Resumption:
    """Removes from a repeated stream what has been passed on already."""

    def __init__(self) -> None:
        self._num_passed = self._num_to_skip = 0
        self._model: ModelCard | None = None
        """The model of the parts passed on; None: a repetition may be of any model."""

    def restart(self) -> None:
        """Expect the stream from its beginning."""
        self._num_to_skip = self._num_passed

    def new_part(self, event: AnswerDelta | AnswerResult) -> AnswerDelta | AnswerResult | None:
        """Return the part of an event that has not been passed on, None if there is none."""
        if self._model is not None and self._model.version != event.model.version:
            raise RequestError("a new model has taken over amid this answer; ask again", code="unavailable")
        if isinstance(event, AnswerDelta):
            text = event.text[self._num_to_skip :]
            self._num_to_skip -= len(event.text) - len(text)
            if not text:
                return None
            self._num_passed += len(text)
            event = replace(event, text=text)
        self._model = event.model
        return event


def _is_death(error: Exception) -> bool:
    """Whether a replica that had accepted the call is gone; its own errors are of other types."""
    broken = isinstance(error, AioRpcError) and error.code() in _BROKEN
    stopped = _cause(error, EngineError)
    return broken or isinstance(error, RayActorError) or (stopped is not None and stopped.in_flight)


def _is_absence(error: Exception) -> bool:
    """Whether the call has reached no replica that would compute it."""
    # Serve's error text for a stream that no replica has accepted
    lost = isinstance(error, RuntimeError) and str(error).startswith("Unexpected error (StatusCode.")
    stopped = _cause(error, EngineError)
    gone = isinstance(error, DeploymentUnavailableError | ReplicaUnavailableError)
    return lost or gone or (stopped is not None and not stopped.in_flight)


def _cause(error: Exception, kind: type[ErrorT]) -> ErrorT | None:
    """Return the error that a replica raised, if it is of a kind."""
    cause = own_error(error)
    return cause if isinstance(cause, kind) else None


def raise_as_ours(error: Exception) -> None:
    """Raise an error of Ray's about a call as one that a client may read.

    Raises:
        RequestError: The queue is full, or the model is not there.
        MATSError: The replica raised it.
    """
    if isinstance(error, BackPressureError):
        raise RequestError("too many requests are waiting for the model", code="overloaded") from None
    if _is_death(error) or _is_absence(error):
        raise RequestError("the model is not running at the moment", code="unavailable") from error
    if (cause := _cause(error, MATSError)) is not None:
        raise cause from None
    raise error  # a remote error's text holds its traceback, for the log
