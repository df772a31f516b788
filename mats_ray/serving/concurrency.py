"""Several calls of one request at a time: a limited number, and none of them runs on after the request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

ResultT = TypeVar("ResultT")
Call = Callable[[], Awaitable[ResultT]]


@asynccontextmanager
async def running(
    calls: Sequence[Call[ResultT]], *, limit: int
) -> AsyncIterator[list[asyncio.Task[ResultT]]]:
    """Start calls in their order; at the end of the block those that still run are cancelled and awaited.

    Args:
        calls: At least one.
        limit: Number of calls in flight; the others wait for one of them to end.
    """
    semaphore = asyncio.Semaphore(limit)

    async def run(call: Call[ResultT]) -> ResultT:
        async with semaphore:
            return await call()

    tasks = [asyncio.create_task(run(call)) for call in calls]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def gather(calls: Sequence[Call[ResultT]], *, limit: int) -> list[ResultT]:
    """Return the results of all calls, in their order; the first error cancels the others and is raised."""
    async with running(calls, limit=limit) as tasks:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        return [task.result() for task in tasks]
