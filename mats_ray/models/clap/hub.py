"""A CLAP directory by its hub id: from the local cache, and only if it is not there from the hub."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download

from mats_ray.errors import ModelError
from mats_ray.models.clap.directory import weight_files

_SETTINGS = ["*.json", "*.txt"]


def is_hub_id(ref: str) -> bool:
    """Tell "owner/name" from a path."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", ref) is not None


def fetch_directory(ref: str) -> Path:
    """Find the directory of a hub id, downloading it if it is not in the cache.

    Raises:
        ModelError: It is not in the cache and the hub does not give it.
    """
    try:
        path = Path(snapshot_download(ref, local_files_only=True))
        if weight_files(path):
            return path
    except (OSError, ValueError):
        pass  # not in the cache
    try:
        path = Path(snapshot_download(ref, allow_patterns=[*_SETTINGS, "*.safetensors"]))
        if not weight_files(path):
            path = Path(snapshot_download(ref, allow_patterns=[*_SETTINGS, "pytorch_model*.bin"]))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"no CLAP at {ref}: it is no file or directory here, is not in the local hub cache, and the hub"
            f" does not give it ({reason}); download it elsewhere and pass the directory"
        ) from error
    return path
