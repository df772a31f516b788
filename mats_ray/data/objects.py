"""Local folders and s3:// (gs://, ...) prefixes through one door.

What this process knows about reaching the storage is put into the file system object itself: pickled, it
works in the processes of a cluster that was started without those settings.
"""

import os
import random
import time
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar, cast

import fsspec
from fsspec.spec import AbstractFileSystem

from mats_ray.errors import DataError

ATTEMPTS, ATTEMPTS_REFUSED = 5, 2
"""To reach a storage that fails; that says no (keys that are wrong or have expired)."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 20.0
"""Twice as long each time; what is really waited is drawn between nothing and that."""
CHUNK_BYTES = 16 * 2**20
"""Larger objects are read in ranges: what is lost when a connection breaks."""

Result = TypeVar("Result")

_S3_TIMEOUTS = {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}}

_S3_ENVIRONMENT = {
    "key": "AWS_ACCESS_KEY_ID",
    "secret": "AWS_SECRET_ACCESS_KEY",
    "token": "AWS_SESSION_TOKEN",
    "endpoint_url": "AWS_ENDPOINT_URL_S3",
}
"""s3fs's argument and the variable it is taken from; without keys, s3fs finds the machine's own role."""


def is_remote(path: str) -> bool:
    """Whether a path names a protocol."""
    return "://" in path


def open_storage(path: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a path, and the path as that file system spells it.

    Raises:
        DataError: The protocol is unknown, or its package is not installed.
    """
    protocol = path.partition("://")[0] if is_remote(path) else "file"
    options: dict[str, Any] = {"use_listings_cache": False}  # s3fs would not see what others write
    if protocol in {"s3", "s3a"}:
        options |= s3_settings()
    try:
        files = fsspec.filesystem(protocol, **options)
    except (ValueError, ImportError) as error:
        raise DataError(f"{path}: no access to {protocol}:// paths: {error}") from error
    _try_once(files)
    return files, files._strip_protocol(path) if is_remote(path) else os.path.abspath(path)  # noqa: PTH100


def _try_once(files: AbstractFileSystem) -> None:
    """Switch s3fs's own retries off: they know no chance, are nested in one another, and multiply ours.

    A file system forgets this on its way to another process.
    """
    if hasattr(files, "retries"):
        cast("Any", files).retries = 1


def read_bytes(files: AbstractFileSystem, path: str) -> bytes:
    """Fetch one whole object."""
    _try_once(files)
    # s3fs would ask for its size first, to read large ones in parts at once
    more = {"max_concurrency": 1} if "s3" in files.protocol else {}
    return cast("bytes", files.cat_file(path, **more))


def fetch_into(sink: BinaryIO, files: AbstractFileSystem, path: str, size: int) -> None:
    """Fetch one object of a listed size piece by piece, each tried again if it fails or falls short.

    Raises:
        FileNotFoundError: It is gone.
        OSError: The last attempt failed; also where the object is no longer as long as it was listed.
    """
    _try_once(files)
    if size <= CHUNK_BYTES:
        sink.write(persistently(lambda: _of_length(read_bytes(files, path), size, path)))
        return
    for start in range(0, size, CHUNK_BYTES):
        end = min(start + CHUNK_BYTES, size)
        sink.write(persistently(lambda start=start, end=end: _range(files, path, start, end)))
    now = persistently(lambda: files.info(path))["size"]
    if now != size:
        raise OSError(f"it has {now} bytes, {size} when it was listed")


def persistently(action: Callable[[], Result]) -> Result:
    """Do something with a storage again while it fails, waiting longer each time, by chance.

    Without chance all workers would come back at the same moment.

    Raises:
        OSError: Of the last attempt, or made of what it raised; FileNotFoundError at once.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return action()
        except FileNotFoundError:
            raise
        except Exception as error:  # every kind of store has its own
            if attempt >= (ATTEMPTS_REFUSED if isinstance(error, PermissionError) else ATTEMPTS):
                if isinstance(error, OSError):
                    raise
                raise OSError(f"{type(error).__name__}: {error}") from error
        longest = min(FIRST_WAIT_SECONDS * 2 ** (attempt - 1), LONGEST_WAIT_SECONDS)
        time.sleep(random.uniform(0, longest))  # noqa: S311  (no secret)


def _range(files: AbstractFileSystem, path: str, start: int, end: int) -> bytes:
    return _of_length(cast("bytes", files.cat_file(path, start=start, end=end)), end - start, path)


def _of_length(data: bytes, size: int, path: str) -> bytes:
    if len(data) != size:
        raise OSError(f"{path} gave {len(data)} bytes where {size} were listed")
    return data


def s3_settings() -> dict[str, Any]:
    """Collect what the usual AWS environment variables say, as arguments of s3fs."""
    settings: dict[str, Any] = {
        argument: os.environ[name] for argument, name in _S3_ENVIRONMENT.items() if os.environ.get(name)
    }
    if "endpoint_url" not in settings and os.environ.get("AWS_ENDPOINT_URL"):
        settings["endpoint_url"] = os.environ["AWS_ENDPOINT_URL"]
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        settings["client_kwargs"] = {"region_name": region}
    return settings | {"config_kwargs": _S3_TIMEOUTS}
