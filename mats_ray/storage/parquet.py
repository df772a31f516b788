"""Folders of Parquet files, and the marker of unfinished ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from mats_ray.errors import DataError, StorageError
from mats_ray.storage.access import is_remote, locate
from mats_ray.storage.listing import StoredFile, list_files, stat
from mats_ray.storage.reading import read_bytes

UNFINISHED = "_UNFINISHED"
"""Name of the file that marks a folder as unfinished; it names the command that writes there."""


def parquet_files(path: str) -> list[StoredFile]:
    """List the Parquet files at a path, sorted: one file, whatever its name, or all below a folder.

    Raises:
        DataError: Nothing is there, or a job that writes there has not finished.
    """
    check_finished(path)
    root = path if is_remote(path) else locate(path)[1]
    files = [one for one in list_files(path) if one.path.endswith(".parquet") or one.path == root]
    if not files:
        raise DataError(f"no Parquet files at {path}")
    return sorted(files, key=lambda one: one.path)


def check_finished(path: str) -> None:
    """Refuse a folder marked as unfinished.

    Raises:
        DataError: A job was killed there, or is still at work; names its command.
    """
    marker = f"{path.rstrip('/')}/{UNFINISHED}"
    if stat(marker) is not None:
        command = read_bytes(marker).decode().strip()
        raise DataError(f"{path} is unfinished: `{command}` is at work there or was killed; run it again")


@contextmanager
def reading_parquet(path: str) -> Iterator[None]:
    """Name the file when Parquet cannot be read: footers and rows, some bytes of which may be damaged.

    Raises:
        DataError: Any failure of pyarrow.
    """
    try:
        yield
    except StorageError:
        raise
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is not a readable Parquet file (cut off?): {reason}") from error
