"""Files at a path or below it."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from fsspec.spec import AbstractFileSystem

from mats_ray.storage.access import is_remote, locate
from mats_ray.storage.retries import retry, storage_errors

_ETAGS = ("ETag", "etag", "md5Hash", "crc32c")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file or object."""

    path: str
    """Absolute path, or URI."""
    name: str
    """Path below the folder that was listed; for a single file, the last part of its path."""
    size: int
    """Size in bytes."""
    etag: str
    """Changes with the content: the store's own, or made of size and modification time."""
    mtime_ns: int
    """Modification time."""


def stat(path: str) -> StoredFile | None:
    """Return one file's size and version; None if there is none.

    Raises:
        StorageError: The storage cannot be reached.
    """
    files, key = locate(path)
    with storage_errors(path, "reached"):
        if not is_remote(path):
            return _local_file(key, name_of(key)) if os.path.isfile(key) else None  # noqa: PTH113
        try:
            info = cast("dict[str, Any]", retry(lambda: files.info(key)))
        except FileNotFoundError:
            return None
    return None if info.get("type") == "directory" else _remote_file(path, name_of(path), info)


def exists(path: str) -> bool:
    """Whether a file or folder is at a path."""
    if not is_remote(path):
        return os.path.exists(locate(path)[1])  # noqa: PTH110
    return next(list_files(path), None) is not None


def list_files(path: str, *, recursive: bool = True) -> Iterator[StoredFile]:
    """Yield the files below a folder or prefix, in no order, or the one file at a path, or nothing.

    Links to files are listed, links to folders are not entered.

    Raises:
        StorageError: It cannot be listed.
    """
    files, key = locate(path)
    with storage_errors(path, "listed"):
        if not is_remote(path):
            yield from _local_files(key, recursive=recursive)
            return
        listed = _pages if "s3" in files.protocol else _found
        root, num_found = path.rstrip("/"), 0
        for one, info in listed(files, key, recursive=recursive):
            num_found += 1
            if info.get("type") != "directory" and not one.endswith("/"):
                name = one[len(key) :].removeprefix("/")
                yield _remote_file(f"{root}/{name}", name, info)
    if not num_found and "/" in key and (one := stat(path)):  # an object, not a folder
        yield one


def _local_files(top: str, *, recursive: bool) -> Iterator[StoredFile]:
    if os.path.isfile(top):  # noqa: PTH113
        yield _local_file(top, name_of(top))
        return

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for folder, folders, names in os.walk(top, onerror=refuse):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a broken link, or gone since
                yield _local_file(path := f"{folder}/{name}", path.removeprefix(top).lstrip("/"))
        if not recursive:
            folders.clear()


def name_of(path: str) -> str:
    """Return the last part of a path or URI."""
    return path.rstrip("/").rpartition("/")[2]


def _local_file(path: str, name: str) -> StoredFile:
    status = os.stat(path)  # noqa: PTH116
    etag, mtime_ns = local_etag(status), status.st_mtime_ns
    return StoredFile(path=path, name=name, size=status.st_size, etag=etag, mtime_ns=mtime_ns)


def local_etag(status: os.stat_result) -> str:
    """Identify a local file's content without reading it: a hash of size and modification time."""
    return hashlib.sha256(f"{status.st_size}-{status.st_mtime_ns}".encode()).hexdigest()[:16]


def _found(files: AbstractFileSystem, key: str, *, recursive: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield keys and their metadata, all from one response."""
    depth = None if recursive else 1
    with contextlib.suppress(FileNotFoundError):
        found = retry(lambda: files.find(key, maxdepth=depth, detail=True))
        yield from cast("dict[str, dict[str, Any]]", found).items()


def _pages(files: Any, key: str, *, recursive: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the same from S3 page by page, each retried by itself: millions of keys are not held twice.

    s3fs keeps a dictionary of a kilobyte per object until it has all of them.
    """
    bucket, folder = key.partition("/")[::2]
    where = {"Bucket": bucket, "Prefix": f"{folder}/" if folder else ""} | (
        {} if recursive else {"Delimiter": "/"}
    )
    more: str | None = None
    while True:
        page = retry(lambda more=more: _page(files, where, more))
        for one in page.get("Contents", []):
            yield f"{bucket}/{one['Key']}", one | {"size": one["Size"]}
        more = page.get("NextContinuationToken")
        if not more:
            return


def _page(files: Any, where: dict[str, Any], more: str | None) -> dict[str, Any]:
    return files.call_s3("list_objects_v2", **where, **({"ContinuationToken": more} if more else {}))


def _remote_file(path: str, name: str, info: Mapping[str, Any]) -> StoredFile:
    size, modified = int(info.get("size") or 0), info.get("LastModified", info.get("mtime"))
    etag = next((str(info[name]).strip('"') for name in _ETAGS if info.get(name)), f"{size}-{modified}")
    seconds = modified.timestamp() if isinstance(modified, datetime) else modified or 0
    mtime_ns = round(1_000 * float(seconds)) * 1_000_000
    return StoredFile(path=path, name=name, size=size, etag=etag, mtime_ns=mtime_ns)
