"""The table of bridges, and the one a model directory carries."""

from collections.abc import Callable
from pathlib import Path

from mats_ray.config.bridge import STATE_FILES, BridgeName
from mats_ray.errors import ModelError
from mats_ray.models.bridges.bridge import Bridge, NoBridge
from mats_ray.models.bridges.mean_shift import MeanShift
from mats_ray.models.bridges.projection import Projection
from mats_ray.models.bridges.santa import Santa
from mats_ray.models.bridges.spectral import Spectral
from mats_ray.models.directory import ModelInfo, ModelSettings
from mats_ray.models.santa import SantaMemory

Load = Callable[[Path, ModelSettings], Bridge]
"""From the file of its state and a model's settings."""

BRIDGES: dict[BridgeName, Load] = {
    "santa": lambda file, of: Santa(SantaMemory.load(file), of.santa),
    "mean_shift": lambda file, _: MeanShift.load(file),
    "projection": lambda file, of: Projection.onto(SantaMemory.load(file), of.projection),
    "spectral": lambda file, of: Spectral.load(file, of.spectral),
    "none": lambda _, __: NoBridge(),
}


def load_bridge(info: ModelInfo) -> Bridge:
    """Load the bridge of a model directory, on the CPU.

    Raises:
        ModelError: Its file is missing, cut off, of another bridge or of another CLAP's width.
    """
    file = info.directory / STATE_FILES.get(info.bridge, "")
    bridge = BRIDGES[info.bridge](file, info)
    if bridge.dim is not None and bridge.dim != info.model.clap.dim:
        raise ModelError(f"{file} is {bridge.dim}-d, the model's CLAP is {info.model.clap.dim}-d")
    return bridge


def load_provenance(bridge: BridgeName, file: Path) -> dict[str, str]:
    """Read where a bridge's state comes from.

    Raises:
        ModelError: The file is no state of this bridge, or cut off.
    """
    if bridge == "mean_shift":
        return MeanShift.load(file).provenance
    return Spectral.load(file).provenance if bridge == "spectral" else SantaMemory.load(file).provenance
