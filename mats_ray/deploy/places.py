"""Paths of a configuration as pods see them: each on storage that all pods share, none with a password."""

import re
from collections.abc import Iterator

from mats_ray.config import RunConfig
from mats_ray.config.deploy import DeployConfig
from mats_ray.config.paths import paths_of
from mats_ray.errors import ConfigError
from mats_ray.storage import is_remote, is_s3

_BUCKET = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""Names that S3 gives to buckets."""
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_PACKAGE = "package:"
"""Beginning of references to files of a Python package, which the image has."""
_MODEL = "serve.model"
_CHECKPOINT_FILE = (".pt", ".pth", ".ckpt", ".safetensors", ".bin")
_SECRETS = {
    "a password in a URL": re.compile(r"://[^/\s@]+@"),
    "an AWS key": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a signed URL": re.compile(r"(?i)[?&](x-amz-signature|sig|signature|token)="),
    "an API key": re.compile(r"\b(sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,})"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
}


def check_places(config: RunConfig, deploy: DeployConfig) -> None:
    """Check every path that a job or the service will use.

    Raises:
        ConfigError: A path is on the disk of one pod, names no bucket, or needs access that is not there.
    """
    for key, path, mark in paths_of(config):
        if key == _MODEL and "model" not in config.serve.model_fields_set:
            continue  # the service has the model of the run then
        if mark.kind == "storage":
            _check_place(key, path, deploy)
        elif not _is_name(path):
            _check_pretrained(key, path, deploy)


def check_no_secrets(config: RunConfig) -> None:
    """Check that no value looks like a secret, as all of them are written into manifests.

    Raises:
        ConfigError: One does; the message names its key, and not the value.
    """
    for key, text in _texts(config.model_dump(mode="json"), ""):
        for what, pattern in _SECRETS.items():
            if pattern.search(text):
                raise ConfigError(
                    f"{key} holds {what}, and manifests hold no secrets: keep it in a Secret "
                    "(docs/deployment.md)"
                )


def _check_place(key: str, path: str, deploy: DeployConfig) -> None:
    if is_s3(path):
        bucket = path.partition("://")[2].partition("/")[0]
        if not _BUCKET.fullmatch(bucket):
            raise ConfigError(
                f"{key} = {path} names no bucket: {bucket!r} is not 3 to 63 characters of a-z, 0-9, "
                "'-' and '.'"
            )
        if deploy.s3 is None:
            raise ConfigError(f"{key} = {path} needs access to S3: give deploy.s3")
    elif is_remote(path):
        raise ConfigError(
            f"{key} = {path} is neither in S3 nor on the volume, and pods reach no other storage: use an "
            "s3:// path, or one on deploy.volume"
        )
    else:
        _check_shared(key, path, deploy)


def _check_shared(key: str, path: str, deploy: DeployConfig) -> None:
    if deploy.volume is None:
        raise ConfigError(
            f"{key} = {path} is a path of one pod, and nodes share no disk: use an s3:// path, or give "
            "deploy.volume and a path on it"
        )
    if ".." in path.split("/") or not f"{path.removeprefix('file://')}/".startswith(f"{deploy.volume.path}/"):
        raise ConfigError(
            f"{key} = {path} is a path of one pod: use an s3:// path, or one on the volume, "
            f"{deploy.volume.path}/..."
        )


def _is_name(reference: str) -> bool:
    """Whether a pretrained part is an id of a hub, or a file of a package."""
    if reference.startswith(_PACKAGE):
        return True
    return bool(_HUB_ID.fullmatch(reference)) and not reference.endswith(_CHECKPOINT_FILE)


def _check_pretrained(key: str, path: str, deploy: DeployConfig) -> None:
    if is_remote(path):
        raise ConfigError(
            f"{key} = {path} is read from a folder, or a hub: name an id of the hub, or a path on "
            "deploy.volume"
        )
    _check_shared(key, path, deploy)


def _texts(tree: object, key: str) -> Iterator[tuple[str, str]]:
    """Yield every text of a tree with its dotted key."""
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, dict):
        for name, value in tree.items():
            yield from _texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _texts(value, f"{key}.{index}")
