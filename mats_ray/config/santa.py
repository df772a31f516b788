"""Sections ``memory`` and ``santa``: what a bridge is made of, and how Santa averages its texts."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from mats_ray.config.base import StrictConfig
from mats_ray.config.bridge import BridgeName
from mats_ray.config.model import NOISE_VARIANCE, Variance
from mats_ray.config.paths import StoragePath


class MemoryConfig(StrictConfig):
    """How the Santa memory is built (paper section 3.4), and what other bridges are made of."""

    path: StoragePath | None = None
    """Path of the file that holds the bridge's state; empty: below output_dir."""
    num_rows: PositiveInt = 5172
    """Number of text embeddings, drawn with the seed from all distinct ones (0.1 % of AudioTIA-5M)."""
    num_clusters: PositiveInt = 100
    num_iterations: PositiveInt = 10
    """Number of K-means iterations."""
    noise_variance: Variance = NOISE_VARIANCE
    """Santa's: variance per component; the noise is drawn once when the memory is built, never at inference.
    "auto" as in ``model.noise``. The support of a projection has no noise."""
    audio: StoragePath | None = None
    """With ``model.bridge: mean_shift``: folder, s3:// prefix or manifest of audio, without texts."""
    pairs: StoragePath | None = None
    """With ``model.bridge: spectral``: JSONL, CSV or Parquet with columns ``path`` (audio) and ``text``."""
    num_clips: Annotated[int, Field(ge=2, le=100_000)] = 1000
    """Largest number of clips of ``audio`` or ``pairs`` that are used, drawn with the seed."""

    @model_validator(mode="after")
    def clusters_fit_rows(self) -> "MemoryConfig":
        """Refuse more clusters than rows."""
        if self.num_clusters > self.num_rows:
            raise ValueError(f"num_clusters={self.num_clusters} exceeds num_rows={self.num_rows}")
        return self


class SantaConfig(StrictConfig):
    """How an audio embedding is moved towards the texts it resembles (paper Eq. 6-7)."""

    enabled: bool = True
    num_neighbours: PositiveInt = 32
    """L: number of texts averaged, all of the nearest cluster; all its members if it has fewer."""
    temperature: PositiveFloat = 0.1
    """tau: temperature of the softmax."""
    mix: Annotated[float, Field(ge=0, le=1)] = 0.3
    """lambda: 0 keeps the audio embedding, 1 replaces it."""
    compat: Literal["paper", "upstream"] = "paper"
    """"upstream" computes as the released code does (docs/fidelity.md): on the audio embedding as CLAP gives
    it, not normalised, and with clusters smaller than L filled up with their first row. Its
    ``temperature: 10`` multiplies; that is 0.1 here."""
    neighbour_noise_variance: NonNegativeFloat = 0
    """With compat "upstream": variance of noise on the neighbours at each request. Upstream has 0.015 and
    draws afresh each time; here the draw is always the same."""

    @model_validator(mode="after")
    def only_upstream_draws_at_inference(self) -> "SantaConfig":
        """In the paper noise is added once, when the memory is built (``memory.noise_variance``)."""
        if self.neighbour_noise_variance and self.compat != "upstream":
            raise ValueError(
                f"neighbour_noise_variance={self.neighbour_noise_variance:g} needs compat: upstream; "
                "the paper's noise is memory.noise_variance, drawn when the memory is built"
            )
        return self


def bridge_in_use(bridge: BridgeName, santa: SantaConfig) -> BridgeName:
    """Return the bridge that is used: none where it is Santa, and Santa is off."""
    return "none" if bridge == "santa" and not santa.enabled else bridge
