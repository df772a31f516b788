"""Calls through Serve's handles: repeated when a replica dies, cancelled when nobody waits for them.

An answer is the same each time it is computed, so a call may be repeated, even one half told. But it may be
what the replica died of: a call that was in flight at a death is repeated once and no more, so that no
request takes one replica after another. Serve repeats no call that a replica has accepted.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
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
from mats_ray.serving.types import Embedded, ModelCard, Told
from mats_ray.types import AudioClip

ErrorT = TypeVar("ErrorT", bound=MATSError)
_MAX_DEATHS = 1
"""At which a call may have been in flight and is repeated all the same."""
_BROKEN = (StatusCode.UNAVAILABLE, StatusCode.CANCELLED, StatusCode.INTERNAL, StatusCode.UNKNOWN)
"""What gRPC says of a connection whose other end has gone."""
_STORED_BYTES = 600_000
"""Sounds from this size on go through Ray's object store, smaller ones straight to the replica by gRPC: one
then takes 2 ms instead of 5, but with a megabyte more; at 4 MB it takes none (benchmarks/serving.md)."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0


class Patience:
    """How long and how often a call is repeated.

    Args:
        seconds: How long it waits for a replica, from now on; 0 never repeats.
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
        self._deaths = 0

    async def wait(self, error: Exception) -> None:
        """Wait a while after an error, longer each time.

        Raises:
            RequestError: The error is not the loss of a replica, it has been long enough, or replicas died of
                this call, as it seems (``replica_died``).
        """
        self._deaths += _is_death(error)
        if self._deaths > _MAX_DEATHS:
            raise RequestError(
                f"{self._deaths} replicas died while they computed this request; it is not repeated again",
                code="replica_died",
            ) from error
        if not (_is_death(error) or _is_absence(error)) or time.monotonic() + self._pause > self._until:
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
        self._given, self._retry_seconds, self._on_retry = handle, retry_seconds, on_retry

    @cached_property
    def _handle(self) -> DeploymentHandle:
        """Sends arguments in the call itself. Made when first used: a handle needs a running event loop."""
        return self._given.options(_by_reference=False)

    @cached_property
    def _storing_handle(self) -> DeploymentHandle:
        return self._given.options(_by_reference=True)

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

    async def encode(self, clip: AudioClip) -> Embedded:
        """Embed one clip: (C,) float32."""
        handle = self._storing_handle if clip.samples.nbytes >= _STORED_BYTES else self._handle
        return await self._call(handle.encode, clip)

    async def encode_labels(self, labels: Sequence[str]) -> Embedded:
        """Embed texts: (N, C) float32."""
        return await self._call(self._handle.encode_labels, list(labels))


class RemoteAnswerer(_Remote):
    """The answerer behind a handle."""

    async def answer(self, embedded: Embedded, instruction: str, options: AnswerOptions) -> Told:
        """Answer one instruction about one embedding (C,)."""
        return await self._call(self._handle.answer, embedded, instruction, options)

    async def describe(self) -> ModelCard:
        """Say which model this is."""
        return await self._call(self._handle.describe)

    async def stream(
        self, embedded: Embedded, instruction: str, options: AnswerOptions
    ) -> AsyncGenerator[ModelCard | str | Told, None]:
        """Answer in pieces; a replica that dies midway is replaced by one that says the same again.

        Raises:
            RequestError: It is not: meanwhile there is another model.
        """
        patience, heard = self._patience(), _Heard()
        while True:
            heard.again()
            method: Any = self._handle.options(stream=True).stream
            pieces = method.remote(embedded, instruction, options)
            try:
                async for piece in pieces:
                    for news in heard.news_in(piece):
                        yield news
                    if isinstance(piece, Told):
                        return
            except (asyncio.CancelledError, GeneratorExit):
                pieces.cancel()
                raise
            except Exception as error:  # noqa: BLE001  sorted out there
                await patience.wait(error)


class _Heard:
    """What of a stream has been passed on; a repetition's beginning is left out."""

    def __init__(self) -> None:
        self._said = self._skip = 0
        self._by: ModelCard | None = None
        self._introduced = False

    def again(self) -> None:
        """Listen to the stream from its beginning."""
        self._skip = self._said

    def news_in(self, piece: ModelCard | str | Told) -> Iterator[ModelCard | str | Told]:
        """What is new; who speaks is told with the first word, for until then it may be another."""
        if isinstance(piece, ModelCard):
            if self._introduced and self._by is not None and self._by.version != piece.version:
                raise RequestError(
                    "a new model has taken over amid this answer; ask again", code="unavailable"
                )
            self._by = piece
            return
        if isinstance(piece, str):
            piece, self._skip = piece[self._skip :], max(0, self._skip - len(piece))
            self._said += len(piece)
        if piece and not self._introduced:
            assert self._by is not None, "a stream begins with who speaks"
            self._introduced = True
            yield self._by
        if piece:
            yield piece


def _is_death(error: Exception) -> bool:
    """Whether a replica that had accepted the call is gone; what it raises itself comes as another error."""
    broken = isinstance(error, AioRpcError) and error.code() in _BROKEN
    stopped = _cause(error, EngineError)
    return broken or isinstance(error, RayActorError) or (stopped is not None and stopped.in_flight)


def _is_absence(error: Exception) -> bool:
    """Whether the call has reached no replica that would compute it."""
    # Serve's words for a stream that no replica has accepted
    lost = isinstance(error, RuntimeError) and str(error).startswith("Unexpected error (StatusCode.")
    stopped = _cause(error, EngineError)
    gone = isinstance(error, DeploymentUnavailableError | ReplicaUnavailableError)
    return lost or gone or (stopped is not None and not stopped.in_flight)


def _cause(error: Exception, kind: type[ErrorT]) -> ErrorT | None:
    """Return what a replica raised, if it is of a kind; by gRPC it comes as it is, else in Ray's error."""
    cause = own_error(error)
    return cause if isinstance(cause, kind) else None


def raise_as_ours(error: Exception) -> None:
    """Raise what Ray says about a call as what a client may read.

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
