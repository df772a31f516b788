"""Writing files in one step: a reader, even after a kill, finds the old file or the new one."""

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from mats_ray.errors import StorageError
from mats_ray.storage.access import is_remote, locate
from mats_ray.storage.listing import list_files
from mats_ray.storage.retries import ATTEMPTS, reason_of, retry, storage_errors

PENDING = ".pending"
"""Suffix of a local file while it is written."""


def write_bytes(path: str, data: bytes, *, attempts: int = ATTEMPTS) -> None:
    """Write or replace a file in one step: a reader sees the old one or the new one.

    Raises:
        StorageError: It cannot be written.
    """
    files, key = locate(path)
    with storage_errors(path, "written"):
        if is_remote(path):  # one PUT
            retry(lambda: files.pipe_file(key, data), attempts=attempts, warn=path)
        else:
            retry(lambda: _write_local(key, lambda file: file.write(data)), attempts=attempts, warn=path)


def write_file(path: str, source: Path, *, attempts: int = ATTEMPTS) -> None:
    """Copy a local file to a path or URI in one step.

    Raises:
        StorageError: It cannot be written.
    """
    files, key = locate(path)
    with storage_errors(path, "written"):
        if is_remote(path):
            retry(lambda: files.put_file(str(source), key), attempts=attempts, warn=path)
        else:
            retry(lambda: _copy_local(source, key), attempts=attempts, warn=path)


@contextlib.contextmanager
def open_output(path: str) -> Iterator[BinaryIO]:
    """Open a file to be written piece by piece; it is there, whole, once the context ends without an error.

    Raises:
        StorageError: It cannot be written.
    """
    try:
        if is_remote(path):
            with tempfile.NamedTemporaryFile() as file:
                yield cast("BinaryIO", file)
                file.flush()
                write_file(path, Path(file.name))
        else:
            with _replacing(locate(path)[1]) as file:
                yield file
    except StorageError:
        raise
    except OSError as error:  # other errors are the writer's own
        raise StorageError(f"{path} cannot be written: {reason_of(error)}") from error


def _write_local(target: str, write: Callable[[BinaryIO], object]) -> None:
    with _replacing(target) as file:
        write(file)


def _copy_local(source: Path, target: str) -> None:
    with source.open("rb") as data, _replacing(target) as file:
        shutil.copyfileobj(data, file)


@contextlib.contextmanager
def _replacing(target: str) -> Iterator[BinaryIO]:
    """Write a temporary file beside, then rename; its name is random, so that two writers use two files."""
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PENDING}")
    try:
        with pending.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        pending.replace(path)
    finally:
        pending.unlink(missing_ok=True)


def clear_pending(folder: str) -> None:
    """Remove half-written files of killed writers below a folder; remote writers leave none."""
    if not is_remote(folder):
        for left_over in Path(locate(folder)[1]).rglob(f".*{PENDING}"):
            left_over.unlink(missing_ok=True)


def make_folder(path: str) -> None:
    """Make a local folder with its parents; a prefix needs none.

    Raises:
        StorageError: It cannot be made.
    """
    if not is_remote(path):
        with storage_errors(path, "written"):
            Path(locate(path)[1]).mkdir(parents=True, exist_ok=True)


def remove(path: str) -> None:
    """Remove a file, if there is one.

    Raises:
        StorageError: It cannot be removed.
    """
    files, key = locate(path)
    with storage_errors(path, "removed"), contextlib.suppress(FileNotFoundError):
        retry(lambda: files.rm_file(key), warn=path)


def remove_folder(path: str) -> None:
    """Remove a folder and all below it, if there is one.

    Raises:
        StorageError: It cannot be removed.
    """
    if is_remote(path):
        for file in list_files(path):
            remove(file.path)
        return
    with storage_errors(path, "removed"), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(locate(path)[1])


def upload(folder: Path, destination: str) -> None:
    """Copy a local folder to a path or URI; files already there are replaced.

    Raises:
        StorageError: It cannot be written there.
    """
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            write_file(f"{destination.rstrip('/')}/{file.relative_to(folder).as_posix()}", file)
