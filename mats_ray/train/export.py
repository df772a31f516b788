"""A finished run becomes a model directory: trained parts, Santa memory, model card."""

import shutil
import tempfile
from pathlib import Path

from mats_ray.config import RunConfig
from mats_ray.models.directory import SANTA
from mats_ray.storage import read_bytes, upload
from mats_ray.train.card import model_card

MODEL_SUBFOLDER = "model"
"""Of the last checkpoint: the trained parts in the form of a model directory."""


def export(config: RunConfig, checkpoint: Path, metrics: dict[str, float]) -> None:
    """Put the model directory in its place, ``config.model_dir``."""
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        shutil.copytree(checkpoint / MODEL_SUBFOLDER, model)
        if config.santa.enabled:
            (model / SANTA).write_bytes(read_bytes(config.memory_path))
        (model / "README.md").write_text(model_card(config, metrics), "utf-8")
        upload(model, config.model_dir)
