"""List everything below a prefix of S3: shards by folder, several at a time, page by page.

Each shard is what begins with its prefix, so the listing is whole whatever order the store lists in. Where it
lists in the order of the keys, a shard that was listed before is begun behind its last known key: what is new
is most likely there, and the rest of the shard comes last.
"""

# pyarrow.compute makes its functions when it is imported
# pyright: reportAttributeAccessIssue=false

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from mats_ray.errors import StorageError
from mats_ray.storage.s3_pages import Page, read_page, read_pages

MAX_CONCURRENCY = 16
"""Number of shards that are listed at the same time."""
MIN_SHARDS, MAX_DEPTH = 8, 3
"""Folders are opened until there are so many, at most so deep."""
PAGES_PER_CALL = 8
"""Number of pages that one call lists, behind the first of a shard."""

Submit = Callable[..., "Future[Page]"]
"""``submit(function, *args, **kwargs)``: runs a call on a thread, or on a cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """What is left of a shard."""

    prefix: str
    after: str = ""
    """URI behind which it begins; empty: with its first key."""
    until: str = ""
    """Its last URI: what follows is another shard. Empty: its last key."""
    token: str | None = None
    """Where its next page begins."""
    last: str = ""
    """Last URI listed so far."""


class S3Listing:
    """A listing of one prefix.

    Args:
        root: URI of a bucket or folder.
        prefixes: Beginnings of names below it: they are the shards, and nothing else is listed. By default
            the folders found are the shards.
        resume_after: Returns the last URI with a prefix that is known from an earlier listing, or None.

    Attributes:
        submit: Runs the calls; may be replaced while the listing is under way.
    """

    def __init__(
        self,
        root: str,
        *,
        prefixes: Sequence[str] = (),
        resume_after: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self.root = f"{root.rstrip('/')}/"
        self._prefixes, self._resume_after = prefixes, resume_after
        self._threads = ThreadPoolExecutor(MAX_CONCURRENCY, thread_name_prefix="list")
        self.submit: Submit = cast("Submit", self._threads.submit)
        self._waiting, self._running = deque[_Shard](), dict[Future[Page], _Shard]()

    def tables(self) -> Iterator[pa.Table]:
        """Yield objects, tables of ``s3_pages.SCHEMA``, shard by shard in no order.

        Raises:
            StorageError: It cannot be listed.
        """
        try:
            if self._prefixes:
                self._waiting.extend(_Shard(prefix=f"{self.root}{one}") for one in self._prefixes)
            else:
                yield from self._find_shards()
            while self._waiting or self._running:
                while self._waiting and len(self._running) < MAX_CONCURRENCY:
                    self._start(self._waiting.popleft())
                ended = wait(self._running, return_when=FIRST_COMPLETED).done
                for call in [one for one in self._running if one in ended]:
                    yield self._end(self._running.pop(call), call.result())
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _find_shards(self) -> Iterator[pa.Table]:
        """Make shards of folders; yields the objects beside them."""
        level = [self.root]
        for depth in range(MAX_DEPTH):
            calls = [self.submit(read_page, prefix, delimiter=True) for prefix in level]
            found = list[str]()
            for prefix, call in zip(level, calls, strict=True):
                page = call.result()
                if page.token is None:
                    found += page.prefixes
                    yield _files(page.objects)
                else:  # too long a level: listed without its folders
                    self._waiting.append(_Shard(prefix=prefix))
            if depth == MAX_DEPTH - 1 or len(found) + len(self._waiting) >= MIN_SHARDS:
                self._waiting.extend(_Shard(prefix=prefix) for prefix in found)
                return
            level = found

    def _start(self, shard: _Shard) -> None:
        position = {"token": shard.token} if shard.token else {"start_after": shard.after}
        num_pages = PAGES_PER_CALL if shard.last else 1
        self._running[self.submit(read_pages, shard.prefix, num_pages=num_pages, **position)] = shard

    def _end(self, shard: _Shard, page: Page) -> pa.Table:
        """Return the files of a call, and start the next one."""
        paths, objects, is_whole = page.objects["path"], page.objects, True
        ascending = _is_ascending(shard.last, paths)
        if shard.until:
            if not ascending:
                raise StorageError(f"{shard.prefix} is not listed in the order of its keys any more")
            objects = objects.filter(pc.less_equal(paths, shard.until))
            is_whole = len(objects) == len(page.objects)
        if page.token is not None and is_whole:
            rest = replace(shard, token=page.token, last=paths[-1].as_py() if len(paths) else shard.last)
            self._continue(rest, resumable=ascending and not (shard.last or shard.after or shard.until))
        if shard.after:  # a store that knows no starting key lists what is before it, too
            objects = objects.filter(pc.greater(objects["path"], shard.after))
        return _files(objects)

    def _continue(self, shard: _Shard, *, resumable: bool) -> None:
        known = self._resume_after(shard.prefix) if resumable else None
        if known is not None and known > shard.last:
            self._start(_Shard(prefix=shard.prefix, after=known))
            self._waiting.append(replace(shard, until=known))
        else:
            self._start(shard)


def _files(objects: pa.Table) -> pa.Table:
    """Remove the markers that some tools write for folders."""
    return objects.filter(pc.invert(pc.ends_with(objects["path"], "/")))


def _is_ascending(last: str, paths: pa.ChunkedArray) -> bool:
    if not len(paths):
        return True
    return paths[0].as_py() > last and bool(pc.all(pc.less(paths[:-1], paths[1:])).as_py() is not False)
