"""Where Parquet and models live: local folders and s3:// prefixes as one pyarrow file system.

Endpoint, keys and region of S3 come from the usual AWS environment.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from mats_ray.errors import DataError

UNFINISHED = "_UNFINISHED"
"""A file that marks a folder whose rows are not all there yet; it names the command that ends it."""


_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)


def locate(path: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path or URI, and the path inside it.

    Raises:
        DataError: The protocol is unknown or the URI malformed.
    """
    try:
        if "://" in path:
            return fs.FileSystem.from_uri(path)
        return fs.LocalFileSystem(), str(Path(path).expanduser().absolute())
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: no such storage: {error}") from error


def storage_environment() -> dict[str, str]:
    """What this process knows about reaching S3, for processes that were started without it."""
    return {name: os.environ[name] for name in _ENVIRONMENT if os.environ.get(name)}


def use_storage_environment(environment: Mapping[str, str]) -> None:
    """Take over what another process knows about reaching S3."""
    os.environ.update(environment)


def exists(path: str) -> bool:
    """Whether a file or folder is at a path."""
    filesystem, inner = locate(path)
    return filesystem.get_file_info(inner).type != fs.FileType.NotFound


def parquet_files(path: str) -> tuple[fs.FileSystem, list[str]]:
    """List the Parquet files at a path, sorted: one file, or all below a folder.

    Raises:
        DataError: Nothing is there, or a job that writes there has not come to its end.
    """
    check_finished(path)
    filesystem, inner = locate(path)
    if filesystem.get_file_info(inner).type == fs.FileType.File:
        return filesystem, [inner]
    found = filesystem.get_file_info(fs.FileSelector(inner, recursive=True, allow_not_found=True))
    files = sorted(
        one.path for one in found if one.type == fs.FileType.File and one.path.endswith(".parquet")
    )
    if not files:
        raise DataError(f"no Parquet files at {path}")
    return filesystem, files


def check_finished(path: str) -> None:
    """Refuse a folder that holds but a part of its rows.

    Raises:
        DataError: A job was killed there, or is still at work; names its command.
    """
    filesystem, inner = locate(path)
    marker = f"{inner}/{UNFINISHED}"
    if filesystem.get_file_info(marker).type == fs.FileType.File:
        with filesystem.open_input_stream(marker) as stream:
            command = stream.read().decode().strip()
        raise DataError(f"{path} is unfinished: `{command}` is at work there or was killed; run it again")


def upload(folder: Path, destination: str) -> None:
    """Copy a local folder to a path or URI; files already there are replaced.

    Raises:
        DataError: It cannot be written there.
    """
    filesystem, inner = locate(destination)
    try:
        filesystem.create_dir(inner, recursive=True)
        fs.copy_files(
            str(folder), inner, source_filesystem=fs.LocalFileSystem(), destination_filesystem=filesystem
        )
    except OSError as error:
        raise DataError(f"{destination} cannot be written: {error}") from error
