"""Files of a hub id: from the local cache, and only where they are not there from the hub."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download


def is_hub_id(ref: str) -> bool:
    """Tell "owner/name" from a path."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", ref) is not None


def fetch(ref: str, patterns: Sequence[str]) -> Path:
    """Find or download the files of a hub id that match the patterns; the first one tells a cached copy.

    Not left to transformers, which retries an unreachable hub for most of a minute.

    Raises:
        OSError: They are not in the cache and the hub does not give them.
        ValueError: The id is malformed.
    """
    try:
        cached = Path(snapshot_download(ref, local_files_only=True))
    except OSError:
        cached = None
    if cached is not None and any(cached.glob(patterns[0])):
        return cached
    return Path(snapshot_download(ref, allow_patterns=list(patterns)))
