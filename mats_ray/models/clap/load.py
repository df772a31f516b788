"""``load_clap``: one door for every kind of CLAP, recognised by content."""

from pathlib import Path

from mats_ray.errors import ModelError
from mats_ray.models.clap.directory import load_directory
from mats_ray.models.clap.encoder import CLAP


def load_clap(ref: str | Path, *, tokenizer: str | None = None) -> CLAP:
    """Load a CLAP.

    Args:
        ref: A directory in transformers' format.
        tokenizer: Directory or hub id of the text tower's tokenizer, where it is not beside the weights.

    Raises:
        ModelError: Names the ref and what is missing or does not fit.
    """
    path = Path(ref)
    if not path.is_dir():
        raise ModelError(f"no CLAP at {ref}: not a directory")
    return load_directory(path, tokenizer=tokenizer)
