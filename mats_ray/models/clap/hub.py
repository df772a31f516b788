"""Files of a hub id: from the local cache, else from the hub; and models that are refused."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download

from mats_ray.errors import ModelError

_UNTRAINED = re.compile(r"(.*/)?(models--laion--)?larger_clap_music(/snapshots/[^/]*)?/*", re.IGNORECASE)
"""Pattern of the untrained model's name: on the hub, in the hub's cache, or of a folder."""


def is_hub_id(ref: str) -> bool:
    """Whether a reference is "owner/name", not a path."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", ref) is not None


def fetch(ref: str, patterns: Sequence[str]) -> Path:
    """Find or download the files of a hub id that match the patterns.

    A cached copy is recognised by the first pattern. Not left to transformers, which retries an unreachable
    hub for most of a minute.

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


def refuse_untrained(*names: str) -> None:
    """Refuse LAION's larger_clap_music in the hub's version, which retrieves at chance level (0.1 % R@1).

    Args:
        *names: Names of the model: as a reference, as a path, in its config.json.

    Raises:
        ModelError: One of them is its name.
    """
    if any(_UNTRAINED.fullmatch(name) for name in names):
        raise ModelError(
            "laion/larger_clap_music on the hub holds an untrained projection, its embeddings are noise"
            " (a folder of that name is taken for it): use LAION's own file,"
            " music_audioset_epoch_15_esc_90.14.pt of lukewys/laion_clap"
        )
