"""Sections ``memory`` and ``santa``: the texts Santa looks up, and how it uses them."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from mats_ray.config.base import StrictConfig


class MemoryConfig(StrictConfig):
    """How the Santa memory is built (paper section 3.4)."""

    path: str | None = None
    """Memory file; empty: below output_dir."""
    num_rows: PositiveInt = 5172
    """Text embeddings kept, drawn from all distinct ones by seed (0.1 % of AudioTIA-5M)."""
    num_clusters: PositiveInt = 100
    num_iterations: PositiveInt = 10
    noise_variance: NonNegativeFloat = 0.015
    """Drawn once when the memory is built; nothing is drawn at inference."""

    @model_validator(mode="after")
    def clusters_fit_rows(self) -> "MemoryConfig":
        """More clusters than rows cannot be filled."""
        if self.num_clusters > self.num_rows:
            raise ValueError(f"num_clusters={self.num_clusters} exceeds num_rows={self.num_rows}")
        return self


class SantaConfig(StrictConfig):
    """How an audio embedding is moved towards the texts it resembles (paper Eq. 6-7)."""

    enabled: bool = True
    num_neighbours: PositiveInt = 32
    """L: members averaged, all of the nearest cluster; a smaller cluster gives what it has."""
    temperature: PositiveFloat = 0.1
    """tau of the softmax."""
    mix: Annotated[float, Field(ge=0, le=1)] = 0.3
    """lambda: 0 keeps the audio embedding, 1 replaces it."""
    compat: Literal["paper", "upstream"] = "paper"
    """"upstream" computes as the released code does (docs/fidelity.md): on the audio embedding as CLAP gives
    it, not normalised, and with clusters smaller than L filled up with their first row. Its
    ``temperature: 10`` multiplies; that is 0.1 here."""
    neighbour_noise_variance: NonNegativeFloat = 0
    """With compat "upstream": noise on the neighbours at each request (0.015 there), here always the same."""

    @model_validator(mode="after")
    def only_upstream_draws_at_inference(self) -> "SantaConfig":
        """The paper noises the memory once, when it is built (``memory.noise_variance``)."""
        if self.neighbour_noise_variance and self.compat != "upstream":
            raise ValueError(
                f"neighbour_noise_variance={self.neighbour_noise_variance:g} needs compat: upstream; "
                "the paper's noise is memory.noise_variance, drawn when the memory is built"
            )
        return self
