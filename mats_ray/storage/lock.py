"""One job per output folder: a lock with a heartbeat, in local folders and below s3:// prefixes alike.

The lock is a small file in the folder, replaced only while it is the one that was read: under ``flock`` on a
disk, by conditional requests on S3. A killed holder is detected at once on its own machine, from elsewhere by
a heartbeat that has stopped.
"""

import contextlib
import fcntl
import io
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from mats_ray.errors import DataError, MissingError, StorageError
from mats_ray.storage.access import is_remote, locate
from mats_ray.storage.listing import stat
from mats_ray.storage.reading import fetch_into, read_bytes
from mats_ray.storage.retries import ChangedError, code_of, retry, storage_errors
from mats_ray.storage.writing import make_folder, remove, write_bytes

logger = logging.getLogger(__name__)

LOCK = "_LOCK"
HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 120.0
"""Without a heartbeat the lock is free; clocks of machines that share a folder may differ by less."""

_FACTS = {"by", "host", "place", "pid", "started", "since", "beat"}
_UNCONDITIONAL = {"NotImplemented", "501", "InvalidArgument", "InvalidRequest"}
"""How a store refuses conditional requests."""


@contextlib.contextmanager
def lock_folder(folder: str, *, by: str) -> Iterator["FolderLock"]:
    """Hold a folder, which is made, for one job; a job that writes there for long calls ``check`` before.

    Args:
        folder: Local folder or URI.
        by: Command, for the error of another job.

    Raises:
        DataError: Another job holds it; or acquired it after this one had sent no heartbeat for long.
        StorageError: It cannot be written.
    """
    make_folder(folder)
    lock = FolderLock(folder.rstrip("/"), by)
    lock.acquire()
    stop = threading.Event()
    heartbeat = threading.Thread(target=lock.refresh_until, args=(stop,), daemon=True)
    heartbeat.start()
    try:
        yield lock
    finally:
        stop.set()
        heartbeat.join()
        lock.release()
    if lock.is_lost:
        raise DataError(lock.loss)


class FolderLock:
    """A folder held by this process. Used by several threads."""

    def __init__(self, folder: str, by: str) -> None:
        self._folder, self._path = folder, f"{folder}/{LOCK}"
        self._facts = {
            "id": uuid.uuid4().hex,
            "by": by,
            "host": socket.gethostname(),
            "place": _place(),
            "pid": os.getpid(),
            "started": _start_of(os.getpid()),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._version, self.is_lost, self._refreshed = "", False, 0.0
        self._mutex = threading.Lock()
        self.loss = f"{folder} was taken over by another job, `{by}` had no heartbeat for long; run it again"

    def acquire(self) -> None:
        """Take the folder; see ``lock_folder``."""
        content, version = _read(self._path)
        holder = _holder(content)
        if holder is not None and _is_alive(holder):
            raise DataError(self._refusal(holder))
        written = _replace(self._path, version, self._content())
        if written is None:
            raise DataError(self._refusal(_holder(_read(self._path)[0])))
        self._version, self._refreshed = written, time.time()

    def refresh_until(self, stop: threading.Event) -> None:
        """Send heartbeats until an event is set or the lock is lost."""
        while not stop.wait(HEARTBEAT_SECONDS) and not self.is_lost:
            try:
                self._refresh()
            except StorageError as error:
                logger.warning("no heartbeat: %s", error)

    def check(self) -> None:
        """Refuse to go on where the folder may be another job's.

        The process may have been suspended for longer than its lock was good for, and be here before its next
        heartbeat: without a recent one the lock is looked at first.

        Raises:
            DataError: Another job took the folder over.
            StorageError: That cannot be found out.
        """
        if not self.is_lost and time.time() - self._refreshed > STALE_SECONDS / 2:
            self._refresh()
        if self.is_lost:
            raise DataError(self.loss)

    def _refresh(self) -> None:
        with self._mutex:
            if self.is_lost:
                return
            now = time.time()
            written = _replace(self._path, self._version, self._content())
            self._version, self.is_lost = written or "", written is None
            self._refreshed = now
            if self.is_lost:
                logger.error(self.loss)

    def release(self) -> None:
        """Release the lock; a failure only makes the next job wait."""
        try:
            if not self.is_lost:
                _drop(self._path, self._version)
        except StorageError as error:
            logger.warning("the lock stays: %s", error)

    def _content(self) -> bytes:
        return json.dumps(self._facts | {"beat": time.time()}).encode()

    def _refusal(self, holder: dict[str, Any] | None) -> str:
        if holder is None:
            return f"{self._folder} was just taken by another job; wait until it is done"
        text = f"{self._folder} is in use: `{holder['by']}` on {holder['host']}, process {holder['pid']}, "
        text += f"since {holder['since']}; wait until it is done, or end it"
        if holder["place"] == self._facts["place"]:
            return text
        age = time.time() - holder["beat"]
        return f"{text} (last heartbeat {age:.0f} s ago; free after {STALE_SECONDS:.0f} s without one)"


def _holder(content: bytes) -> dict[str, Any] | None:
    """Return the holder of the lock; None if it is free, or no valid lock (cut off by a kill)."""
    try:
        facts = json.loads(content)
        return facts if isinstance(facts, dict) and facts.keys() >= _FACTS else None
    except ValueError:
        return None


def _is_alive(holder: dict[str, Any]) -> bool:
    if holder["place"] == _place():
        return _start_of(holder["pid"]) == holder["started"]
    return time.time() - holder["beat"] < STALE_SECONDS


def _place() -> str:
    """Identify the scope of a process id: a boot of a machine, and a container on it."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _start_of(pid: int) -> str:
    """Return when a living process was started, in clock ticks since boot; empty if there is none."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]


def _read(path: str) -> tuple[bytes, str]:
    """Return content and version of the lock; both empty if there is none."""
    try:
        if not is_remote(path):
            content = read_bytes(path)
            return content, content.decode("latin-1")
        found, sink = stat(path), io.BytesIO()
        if found is None:
            return b"", ""
        fetch_into(sink, path, size=found.size, etag=found.etag)
        return sink.getvalue(), found.etag
    except FileNotFoundError:
        return b"", ""
    except ChangedError:  # a heartbeat between the two requests
        return _read(path)


def _replace(path: str, version: str, content: bytes) -> str | None:
    """Write the lock if it is still of a version; returns the new one, None if another process was faster."""
    if not is_remote(path):
        with storage_errors(path, "written"), contextlib.suppress(FileNotFoundError):
            return _swap_local(locate(path)[1], version, content)
        return None
    if _read(path)[1] != version:
        return None
    faster = (ChangedError, MissingError) if version else (ChangedError,)
    with contextlib.suppress(*faster), storage_errors(path, "written"), contextlib.suppress(FileExistsError):
        retry(partial(_put, path, version, content))
    found, current = _read(path)  # also where the answer to a request was lost that had its effect
    return current if found == content else None


def _put(path: str, version: str, content: bytes) -> None:
    files, key = locate(path)
    if "s3" not in files.protocol:
        write_bytes(path, content)
        return
    s3 = cast("Any", files)
    bucket, inner, _ = s3.split_path(key)
    request = {"Bucket": bucket, "Key": inner, "Body": content}
    condition = {"IfMatch": f'"{version}"'} if version else {"IfNoneMatch": "*"}
    try:
        s3.call_s3("put_object", **request, **condition)
    except OSError as error:
        if code_of(error) not in _UNCONDITIONAL:
            raise
        s3.call_s3("put_object", **request)


def _drop(path: str, version: str) -> None:
    if not is_remote(path):
        with storage_errors(path, "removed"), contextlib.suppress(FileNotFoundError):
            _swap_local(locate(path)[1], version, b"")
    elif _read(path)[1] == version:
        remove(path)


def _swap_local(key: str, version: str, content: bytes) -> str | None:
    """Replace the content of a file if it is still the one known; without content, remove it."""
    with Path(key).open("r+b" if version else "a+b") as file:
        with contextlib.suppress(OSError):  # a file system without locks: nothing better is known
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if file.read().decode("latin-1") != version or not _is_at(file.fileno(), key):
            return None
        if not content:
            Path(key).unlink()
            return ""
        file.seek(0)
        file.truncate()
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        return content.decode("latin-1")


def _is_at(descriptor: int, key: str) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(key))  # noqa: PTH116
    except FileNotFoundError:
        return False
