"""Sections ``memory`` and ``santa``: the texts that Santa averages, and how it averages them."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from mats_ray.config.base import StrictConfig
from mats_ray.config.model import NOISE_VARIANCE


class MemoryConfig(StrictConfig):
    """How the Santa memory is built (paper section 3.4)."""

    path: str | None = None
    """Path of the memory file; empty: below output_dir."""
    num_rows: PositiveInt = 5172
    """Number of text embeddings, drawn with the seed from all distinct ones (0.1 % of AudioTIA-5M)."""
    num_clusters: PositiveInt = 100
    num_iterations: PositiveInt = 10
    """Number of K-means iterations."""
    noise_variance: NonNegativeFloat = NOISE_VARIANCE
    """Variance per component; the noise is drawn once when the memory is built, never at inference."""

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
