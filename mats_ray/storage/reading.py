"""Whole files, ranges of them, and streams; always of one version of a file."""

import io
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec.asyn
import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from mats_ray.storage.access import is_remote, locate
from mats_ray.storage.listing import StoredFile, list_files, stat
from mats_ray.storage.retries import ChangedError, retry, storage_errors

CHUNK_BYTES = 16 * 2**20
"""Size of the ranges that larger objects are read in; a broken connection loses one of them."""


def read_bytes(path: str, *, first: int | None = None) -> bytes:
    """Read one whole file, or its first bytes.

    Raises:
        MissingError: There is none.
        StorageError: It cannot be read.
    """
    files, key = locate(path)
    with storage_errors(path, "read"):
        if not is_remote(path):
            with open(key, "rb") as file:  # noqa: PTH123
                return file.read(first)
        return retry(lambda: _get(files, key, span=None if first is None else (0, first)))


def fetch_into(sink: BinaryIO, path: str, *, size: int, etag: str = "") -> None:
    """Read one remote object of a listed size range by range, each retried if it fails or falls short.

    Args:
        sink: Receives the bytes.
        path: URI.
        size: Number of bytes, as listed.
        etag: ETag, as listed; a replaced object is refused.

    Raises:
        MissingError: It is gone.
        ChangedError: It was replaced since it was listed.
        StorageError: The last attempt failed.
    """
    files, key = locate(path)
    with storage_errors(path, "read"):
        for start in range(0, max(size, 1), CHUNK_BYTES):
            span = (start, min(start + CHUNK_BYTES, size))
            sink.write(retry(lambda span=span: _range(files, key, span, size=size, etag=etag)))
        # S3 compares with each request
        if etag and "s3" not in files.protocol and ((now := stat(path)) is None or now.etag != etag):
            raise ChangedError(f"{path} changed while it was read")


def _range(files: Any, key: str, span: tuple[int, int], *, size: int, etag: str) -> bytes:
    wanted = span[1] - span[0]
    data = _get(files, key, span=span if wanted < size else None, etag=etag)
    if len(data) != wanted:
        raise OSError(f"{key} gave {len(data)} bytes where {wanted} were listed")
    return data


def _get(files: Any, key: str, *, span: tuple[int, int] | None = None, etag: str = "") -> bytes:
    """Make one request for an object, or for its bytes [start, stop), if it is still the one of an ETag."""
    if "s3" not in files.protocol:
        return cast("bytes", files.cat_file(key, *(span or ())))
    bucket, inner, _ = files.split_path(key)
    request = {"Bucket": bucket, "Key": inner}
    request |= {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
    request |= {"IfMatch": f'"{etag}"'} if etag else {}
    return cast("bytes", fsspec.asyn.sync(files.loop, _body, files, request))


async def _body(files: Any, request: dict[str, str]) -> bytes:
    response = await files._call_s3("get_object", **request)
    async with response["Body"] as body:
        return await body.read()


def open_input(path: str) -> pa.NativeFile:
    """Open a file for reading from any place in it; of a remote one, only what is read is fetched.

    Raises:
        MissingError: There is none.
        StorageError: It cannot be opened; later, ``ChangedError`` if it is replaced while it is read.
    """
    files, key = locate(path)
    with storage_errors(path, "read"):
        if not is_remote(path):
            return pa.OSFile(key)
        if (file := stat(path)) is None:
            raise FileNotFoundError(None, "there is no such object")
    return pa.PythonFile(_Ranges(files, key, file), mode="r")


class _Ranges(io.RawIOBase):
    """A remote object as a stream that can seek; every read is a request."""

    def __init__(self, files: AbstractFileSystem, key: str, file: StoredFile) -> None:
        self._files, self._key, self._file, self._at = files, key, file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = max(0, (0, self._at, self._file.size)[whence] + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        start, size = self._at, self._file.size
        stop = min(start + len(buffer), size)
        if start >= stop:
            return 0
        with storage_errors(self._file.path, "read"):
            data = retry(
                lambda: _range(self._files, self._key, (start, stop), size=size, etag=self._file.etag)
            )
        buffer[: len(data)] = data
        self._at = stop
        return len(data)


def download(path: str, folder: Path) -> None:
    """Copy the files below a path or URI to a local folder.

    Raises:
        StorageError: They cannot be read, or change meanwhile.
    """
    for file in list_files(path):
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_remote(path):
            with target.open("wb") as sink:
                fetch_into(sink, file.path, size=file.size, etag=file.etag)
        else:
            with storage_errors(path, "read"):
                shutil.copyfile(file.path, target)
