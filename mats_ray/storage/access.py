"""File system of a path or URI, and the name inside it exactly as written.

`#`, `?`, `%`, `+`, spaces and accents in a path stand for themselves; nothing is decoded.
Endpoint, keys and region of S3 come from the usual AWS environment, which ``Environment`` carries to other
processes.
"""

import os
from functools import partial
from typing import Any, cast

import fsspec
from fsspec.spec import AbstractFileSystem

from mats_ray.errors import DataError

_S3_TIMEOUTS = {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}}
SECRETS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}
"""s3fs's arguments; without keys, it finds the machine's own role."""
_S3_PROTOCOLS = ("s3", "s3a")
_VARIABLES = (
    *SECRETS,
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)


def is_remote(path: str) -> bool:
    """Whether a path names a protocol other than file://."""
    return "://" in path and not path.startswith("file://")


def is_s3(path: str) -> bool:
    """Whether a path is a URI of S3."""
    return path.partition("://")[0] in _S3_PROTOCOLS and "://" in path


def locate(path: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a path or URI, and the path inside it: absolute, or bucket and key.

    Raises:
        DataError: The protocol is unknown, its package is not installed, or the URI holds a password.
    """
    protocol, separator, key = path.partition("://")
    if not is_remote(path):
        return fsspec.filesystem("file"), _absolute(key if separator else path)
    if "@" in key.partition("/")[0]:
        raise DataError(f"{protocol}://... holds a user or a password; keys come from the environment")
    in_s3 = is_s3(path)
    if not protocol or (in_s3 and not key.partition("/")[0]):
        raise DataError(f"{path}: no such storage")
    # listings are not kept: s3fs would not see what others write
    options = {"use_listings_cache": False} | (_s3_settings() if in_s3 else {})
    try:
        files = fsspec.filesystem(protocol, **options)
    except (ValueError, ImportError) as error:
        raise DataError(f"{path}: no access to {protocol}:// paths: {error}") from error
    if not in_s3:
        return files, str(files._strip_protocol(path))
    # s3fs's own retries have no jitter and multiply ours; and it would cut a key at "?versionId="
    s3 = cast("Any", files)
    s3.retries, s3.split_path = 1, partial(_bucket_and_key, s3)
    return files, key.rstrip("/")


def _absolute(path: str) -> str:
    home = path == "~" or path.startswith("~/")
    return os.path.abspath(os.path.expanduser(path) if home else path)  # noqa: PTH100, PTH111 (resolves no links)


def _bucket_and_key(files: Any, path: str) -> tuple[str, str, None]:
    bucket, key = files._find_bucket_key(path)
    return bucket, key, None


def _s3_settings() -> dict[str, Any]:
    """Return the usual AWS environment variables as arguments of s3fs."""
    known = _variables()
    settings: dict[str, Any] = {SECRETS[name]: known[name] for name in SECRETS if name in known}
    if endpoint := known.get("AWS_ENDPOINT_URL_S3") or known.get("AWS_ENDPOINT_URL"):
        settings["endpoint_url"] = endpoint
    if region := known.get("AWS_REGION") or known.get("AWS_DEFAULT_REGION"):
        settings["client_kwargs"] = {"region_name": region}
    return settings | {"config_kwargs": _S3_TIMEOUTS}


def s3_options() -> dict[str, str]:
    """Return the usual AWS environment variables as options of Rust's ``object_store``, which Lance uses."""
    known = _variables()
    options = {name.lower(): known[name] for name in SECRETS if name in known}
    if endpoint := known.get("AWS_ENDPOINT_URL_S3") or known.get("AWS_ENDPOINT_URL"):
        options |= {"aws_endpoint": endpoint, "allow_http": "true"}
    if region := known.get("AWS_REGION") or known.get("AWS_DEFAULT_REGION"):
        options["aws_region"] = region
    return options


class Environment:
    """AWS variables of one process, for processes that were started without them.

    Its repr shows none of them: Ray writes arguments into its logs and its dashboard.
    """

    def __init__(self) -> None:
        self._variables = _variables()

    def use(self) -> None:
        """Set the variables in this process."""
        os.environ.update(self._variables)


def _variables() -> dict[str, str]:
    return {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
