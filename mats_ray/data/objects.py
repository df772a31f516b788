"""Local folders and s3:// (gs://, ...) prefixes through one door.

What this process knows about reaching the storage is put into the file system object itself: pickled, it
works in the processes of a cluster that was started without those settings.
"""

import os
from typing import Any, cast

import fsspec
from fsspec.spec import AbstractFileSystem

from mats_ray.errors import DataError

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
    return files, files._strip_protocol(path) if is_remote(path) else os.path.abspath(path)  # noqa: PTH100


def read_bytes(files: AbstractFileSystem, path: str) -> bytes:
    """Fetch one whole object."""
    return cast("bytes", files.cat_file(path))


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
    return settings
