"""Several calls of one request at once: few at a time, and none of them goes on without the others."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

ResultT = TypeVar("ResultT")
Call = Callable[[], Awaitable[ResultT]]


@asynccontextmanager
async def running(
    calls: Sequence[Call[ResultT]], *, at_once: int
) -> AsyncIterator[list[asyncio.Task[ResultT]]]:
    """Start calls in their order; when the block ends, those that still run are cancelled and waited for.

    Args:
        calls: At least one.
        at_once: Calls under way at a time; the others wait for one of them to end.
    """
    room = asyncio.Semaphore(at_once)

    async def one(call: Call[ResultT]) -> ResultT:
        async with room:
            return await call()

    tasks = [asyncio.create_task(one(call)) for call in calls]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_of(calls: Sequence[Call[ResultT]], *, at_once: int) -> list[ResultT]:
    """Return the results of all calls, in their order; the first error ends them all and is raised."""
    async with running(calls, at_once=at_once) as tasks:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        return [task.result() for task in tasks]
