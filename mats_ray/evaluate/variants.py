"""Ablations of one model (paper Tables 5 to 7): model directories that share its trained parts.

A variant has Santa's numbers, a bridge, or a bridge's state of its own; or it is another trained model,
without noise say.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mats_ray.config import load_config
from mats_ray.config.answer import SantaOptions
from mats_ray.config.bridge import STATE_FILES, TEXT_MEMORY, BridgeName
from mats_ray.config.evaluate import MemoryVariant, VariantConfig
from mats_ray.data.bridge_state import build_state
from mats_ray.errors import ConfigError
from mats_ray.models.directory import ModelInfo, ModelSettings, derive_model, read_info
from mats_ray.storage import is_remote


def variant_model(
    variant: VariantConfig, info: ModelInfo, *, training: Sequence[str], folder: str
) -> ModelInfo:
    """Return the model directory of a variant, written if it is none of its own.

    Args:
        variant: What is different.
        info: Of the model that is varied.
        training: Configuration files of the training run, from whose embedded triplets a memory is built.
        folder: Of the variant; local, and seen by all nodes.

    Raises:
        ConfigError: The folder is remote, or a memory is wanted without a configuration of the training run.
        DataError: The training run's embedded triplets are not there, or the audio that a bridge needs.
        ModelError: The model directory cannot be used.
    """
    base = info if variant.model is None else read_info(variant.model)
    if variant.santa is None and variant.memory is None and variant.bridge is None:
        return base
    if is_remote(folder):
        raise ConfigError(f"variant {variant.name!r} needs a local folder for its model, out is {folder}")
    settings, directory = _settings(variant, base), Path(folder) / "model"
    state = _state(variant, settings.bridge, base, training, Path(folder))
    return derive_model(base, directory, settings=settings, state=state)


def _state(
    variant: VariantConfig, bridge: BridgeName, base: ModelInfo, training: Sequence[str], folder: Path
) -> Path | None:
    """Return the file of the variant's bridge: built, the model's own, or Santa's texts for a projection."""
    if bridge == "none":
        return None
    own = base.directory / STATE_FILES[bridge]
    is_missing = variant.bridge is not None and not own.is_file()
    if variant.memory is not None or (is_missing and training):
        return _built(variant, bridge, training, folder)
    texts = base.directory / TEXT_MEMORY
    if bridge == "projection" and is_missing and texts.is_file():
        return texts
    if not own.is_file():
        raise ConfigError(
            f"variant {variant.name!r} wants {_named(bridge)} of a model without a memory: {base.directory} "
            f"has no {own.name}"
        )
    return own


def _settings(variant: VariantConfig, base: ModelInfo) -> ModelSettings:
    """The model's settings with the variant's bridge and numbers."""
    own = "santa" if base.model.bridge == "none" else base.model.bridge
    bridge = variant.bridge or ("santa" if variant.santa else own)
    if variant.santa is False:
        bridge = "none"
    changes: dict[str, Any] = {
        key: value for key in ("projection", "spectral") if (value := getattr(variant, key)) is not None
    }
    numbers = variant.santa.model_dump(exclude_none=True) if isinstance(variant.santa, SantaOptions) else {}
    santa = base.santa.model_copy(update=numbers | {"enabled": bridge != "none"})
    model = base.model.model_copy(update={"bridge": bridge})
    return replace(base, name=f"{base.name}-{variant.name}", model=model, santa=santa, **changes)


def _built(variant: VariantConfig, bridge: BridgeName, training: Sequence[str], folder: Path) -> Path:
    if not training:
        raise ConfigError(
            f"variant {variant.name!r} has a memory of its own, built of the texts that the model was "
            "trained on: name the training run's configuration in `training`"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STATE_FILES[bridge]
    memory = (variant.memory or MemoryVariant()).model_dump(exclude_none=True) | {"path": str(path)}
    enabled = {"enabled": True}  # the run's own choice plays no part
    config = load_config(training).replace(model={"bridge": bridge}, santa=enabled, memory=memory)
    build_state(config)
    return path


def _named(bridge: BridgeName) -> str:
    return "Santa" if bridge == "santa" else f"the bridge {bridge!r}"
