"""One response, one model: during a roll-out a request may meet replicas of two models.

Encoder, answerer and ingress replicas are replaced one by one. Every embedding names its CLAP, every answer
its model; a request that has met two is repeated until all its results are of one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from mats_ray.serving.errors import RequestError
from mats_ray.serving.types import AnswerResult, Embedding

ResultT = TypeVar("ResultT")
_PAUSE_SECONDS = 0.1


class RolloutRetry:
    """Repeats an attempt that has met two models.

    Args:
        seconds: Time for all attempts; 0: only one.
        sleep: Waits between two attempts.
    """

    def __init__(self, seconds: float, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._seconds, self._sleep = seconds, sleep

    async def run(self, attempt: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Return the result of the first attempt that meets one model only.

        Raises:
            RequestError: ``rolling_out``: time is up; or any other error of an attempt.
        """
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                return await attempt()
            except RequestError as error:
                if error.code != "rolling_out" or time.monotonic() + _PAUSE_SECONDS > deadline:
                    raise
            await self._sleep(_PAUSE_SECONDS)


def check_space(embedding: Embedding, space: str) -> None:
    """Check that an embedding is of a CLAP.

    Raises:
        RequestError: ``rolling_out``: it is another's.
    """
    if embedding.space != space:
        raise _two_models()


def check_one_space(embeddings: Sequence[Embedding]) -> None:
    """Check that the embeddings of a response are of one CLAP.

    Raises:
        RequestError: ``rolling_out``: they are of two.
    """
    if len({embedding.space for embedding in embeddings}) > 1:
        raise _two_models()


def check_one_model(results: Sequence[AnswerResult]) -> None:
    """Check that the answers of a response are of one model.

    Raises:
        RequestError: ``rolling_out``: they are of two.
    """
    if len({result.model.version for result in results}) > 1:
        raise _two_models()


def _two_models() -> RequestError:
    return RequestError("a new model is just taking over; ask again", code="rolling_out")
