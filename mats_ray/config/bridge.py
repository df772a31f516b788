"""The bridges from audio to text: their names, their files, and sections ``projection`` and ``spectral``.

A bridge moves the embedding of a clip towards the text side of CLAP's space, before the mapper that has seen
text alone. ``model.bridge`` names it; the numbers of each are in the section of its name.
"""

from typing import Annotated, Literal

from pydantic import Field

from mats_ray.config.base import StrictConfig, Within

BridgeName = Literal["santa", "mean_shift", "projection", "spectral", "none"]
TEXT_MEMORY = "santa_memory.safetensors"
STATE_FILES: dict[BridgeName, str] = {
    "santa": TEXT_MEMORY,
    "projection": "text_support.safetensors",
    "mean_shift": "mean_shift.safetensors",
    "spectral": "spectral.safetensors",
}
"""What ``mats memory`` writes for each bridge, and a model directory carries; "none" has no file."""


class ProjectionConfig(StrictConfig):
    """Projection onto a text support (DRCap, arXiv 2410.09472; DeCap): the weighted mean of all its texts."""

    temperature: Annotated[float, Within(1e-4, 100)] = 0.07
    """tau of softmax(z . m_i / tau). DRCap takes the temperature its CLAP was trained with; the training of
    that one began at 0.07."""


class SpectralConfig(StrictConfig):
    """Spectral truncation (COMET, arXiv 2605.29628): the few axes that audio and text share."""

    num_axes: Annotated[int, Field(ge=1, le=4096)] = 100
    """Number of axes kept, those of the largest covariance first; all there are if pairs gave fewer. COMET
    keeps 100 of 1,024."""
