"""One reply, one model: what a request meets while a new model rolls out may be of two.

Encoder, answerer and ingress are replaced one by one. An embedding says which CLAP made it, an answer which
model gave it; what does not go together is asked again until all of it is of one model.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from mats_ray.serving.errors import RequestError
from mats_ray.serving.types import Embedded, Told

ResultT = TypeVar("ResultT")
_PAUSE_SECONDS = 0.1


class Agreement:
    """Repeats what met two models at once.

    Args:
        seconds: For how long; 0 never repeats.
        sleep: Waits between two attempts.
    """

    def __init__(self, seconds: float, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._seconds, self._sleep = seconds, sleep

    async def reach(self, attempt: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Return the first result that is of one model.

        Raises:
            RequestError: There has been none for so long; or whatever else an attempt raises.
        """
        until = time.monotonic() + self._seconds
        while True:
            try:
                return await attempt()
            except RequestError as error:
                if error.code != "rolling_out" or time.monotonic() + _PAUSE_SECONDS > until:
                    raise
            await self._sleep(_PAUSE_SECONDS)


def check_space(embedded: Embedded, space: str) -> None:
    """Take no embedding of another CLAP.

    Raises:
        RequestError: It is one.
    """
    if embedded.space != space:
        raise _two_models()


def check_one_space(embedded: Sequence[Embedded]) -> None:
    """Put no embeddings of two CLAPs into one reply.

    Raises:
        RequestError: There are some.
    """
    if len({one.space for one in embedded}) > 1:
        raise _two_models()


def check_one_voice(told: Sequence[Told]) -> None:
    """Put no answers of two models into one reply.

    Raises:
        RequestError: There are some.
    """
    if len({one.by.version for one in told if one.by is not None}) > 1:
        raise _two_models()


def _two_models() -> RequestError:
    return RequestError("a new model is just taking over; ask again", code="rolling_out")
