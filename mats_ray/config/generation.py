"""Section ``generation``: how answers are generated, and the profiles to choose from. Nothing is sampled."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Literal

from pydantic import PositiveInt

from mats_ray.config.base import StrictConfig

Profile = Literal["paper", "fast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationProfile:
    """Search and penalties under one name; the fields are named as transformers' generation arguments."""

    num_beams: int
    no_repeat_ngram_size: int
    """Length of n-grams that may not occur twice; 0: no limit."""
    repetition_penalty: float
    """1: no penalty."""

    def as_kwargs(self) -> dict[str, int | float]:
        """Return the fields as keyword arguments of ``generate``."""
        return asdict(self)


PROFILES: Mapping[Profile, GenerationProfile] = MappingProxyType(
    {
        "paper": GenerationProfile(num_beams=4, no_repeat_ngram_size=2, repetition_penalty=2.0),
        "fast": GenerationProfile(num_beams=1, no_repeat_ngram_size=0, repetition_penalty=1.0),
    }
)
"""Read-only. "paper" is upstream's beam search, "fast" is greedy."""


class GenerationConfig(StrictConfig):
    """Generation without sampling, so the same request has the same answer."""

    profile: Profile = "paper"
    max_new_tokens: PositiveInt = 200
