"""Stand-ins: pretrained models of published names and shapes whose weights mean nothing.

``mats rehearse`` writes them. A marker file lies beside the weights; a model directory that was trained on a
stand-in lists it in its ``config.json``, so it is known as one after its parts have been moved or deleted.
"""

import logging
from pathlib import Path

from mats_ray.config.model import ModelConfig
from mats_ray.errors import ModelError

logger = logging.getLogger(__name__)

MARKER = "STAND_IN.md"
"""File beside the weights of a stand-in; a person who opens the folder reads it, too."""


def mark_stand_in(folder: Path, *, of: str) -> None:
    """Mark a folder as a stand-in.

    Args:
        folder: Holds the weights; created if absent.
        of: Name of the published model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = (
        f"STAND-IN for {of}: names, shapes and types are the published ones, the weights are computed from "
        "their names and mean nothing.\n"
    )
    (folder / MARKER).write_text(text, "utf-8")


def is_stand_in(ref: str | None) -> bool:
    """Whether a directory or checkpoint file carries the marker."""
    if ref is None:
        return False
    path = Path(ref).expanduser()
    return ((path.parent if path.is_file() else path) / MARKER).is_file()


def stand_ins_of(model: ModelConfig) -> tuple[str, ...]:
    """Return the parts of a model ("clap", "llm") that are stand-ins."""
    refs = {"clap": model.clap.ref, "llm": model.llm.path}
    return tuple(part for part, ref in refs.items() if is_stand_in(ref))


def warn_of_stand_ins(source: str, stand_ins: tuple[str, ...]) -> None:
    """Log a warning if a model was trained on stand-ins; its arguments are those of ``refuse_stand_ins``."""
    if stand_ins:
        logger.warning("%s is of a rehearsal on stand-ins: its answers mean nothing", source)


def refuse_stand_ins(source: str, stand_ins: tuple[str, ...], *, rehearsal: bool) -> None:
    """Refuse a model that was trained on stand-ins, unless this is a rehearsal.

    Args:
        source: Name of the model in the error message.
        stand_ins: Its parts that are stand-ins.
        rehearsal: The user knows that the answers mean nothing.

    Raises:
        ModelError: It has any.
    """
    if stand_ins and not rehearsal:
        raise ModelError(
            f"{source} is of a rehearsal on stand-ins ({', '.join(stand_ins)}), its answers mean nothing; "
            "use a trained model, or add --rehearsal"
        )
