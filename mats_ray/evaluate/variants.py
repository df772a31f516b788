"""Ablations of one model (paper Tables 5 to 7): model directories that share its trained parts.

A variant has Santa's numbers, or a memory, of its own; or it is another trained model, without noise say.
"""

from collections.abc import Sequence
from pathlib import Path

from mats_ray.config import load_config
from mats_ray.config.answer import SantaOptions
from mats_ray.config.evaluate import MemoryVariant, VariantConfig
from mats_ray.config.santa import SantaConfig
from mats_ray.data.santa_memory import build_memory
from mats_ray.errors import ConfigError
from mats_ray.models.directory import SANTA, ModelInfo, derive_model, read_info
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
        DataError: The training run's embedded triplets are not there.
        ModelError: The model directory cannot be used.
    """
    base = info if variant.model is None else read_info(variant.model)
    if variant.santa is None and variant.memory is None:
        return base
    if is_remote(folder):
        raise ConfigError(f"variant {variant.name!r} needs a local folder for its model, out is {folder}")
    santa = _santa(variant, base)
    directory = Path(folder) / "model"
    memory = base.directory / SANTA
    if variant.memory is not None and santa.enabled:
        memory = _memory(variant.name, variant.memory, training, directory.parent / SANTA)
    elif santa.enabled and not memory.is_file():
        raise ConfigError(
            f"variant {variant.name!r} wants Santa of a model without a memory: {base.directory}"
        )
    name = f"{base.name}-{variant.name}"
    return derive_model(base, directory, name=name, santa=santa, memory=memory if santa.enabled else None)


def _santa(variant: VariantConfig, base: ModelInfo) -> SantaConfig:
    if variant.santa is False:
        return base.santa.model_copy(update={"enabled": False})
    numbers = variant.santa.model_dump(exclude_none=True) if isinstance(variant.santa, SantaOptions) else {}
    return base.santa.model_copy(update=numbers | {"enabled": True})


def _memory(name: str, changes: MemoryVariant, training: Sequence[str], path: Path) -> Path:
    if not training:
        raise ConfigError(
            f"variant {name!r} has a memory of its own, built of the texts that the model was trained on: "
            "name the training run's configuration in `training`"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    memory = changes.model_dump(exclude_none=True) | {"path": str(path)}
    build_memory(load_config(training).replace(memory=memory))
    return path
