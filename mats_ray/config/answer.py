"""What one request may choose about its answer; the model's own settings where it chooses nothing.

A request comes from anybody, so every number and every list has a bound in its type, for all ways in.
"""

from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from mats_ray.config.base import StrictConfig, Within
from mats_ray.config.generation import GenerationConfig, Profile

MIN_TEMPERATURE = 1e-4
"""Scores divided by less than this leave the range of float32."""


def _zero_or_drawn(temperature: float) -> float:
    if 0 < temperature < MIN_TEMPERATURE:
        raise ValueError(f"must be 0, or from {MIN_TEMPERATURE:g} to 2")
    return temperature


MaxNewTokens = Annotated[int, Within(1, 65_536)]
Temperature = Annotated[float, Within(0, 2), AfterValidator(_zero_or_drawn)]
TopP = Annotated[float, Within(1e-4, 1)]
Seed = Annotated[int, Within(-(2**63), 2**63 - 1)]
StopText = Annotated[str, Field(min_length=1, max_length=100)]
MAX_STOP_TEXTS = 4


class SantaOptions(StrictConfig):
    """Other numbers for Santa, see ``SantaConfig``; None: the model's."""

    mix: Annotated[float, Within(0, 1)] | None = None
    num_neighbours: Annotated[int, Within(1, 1024)] | None = None
    temperature: Annotated[float, Within(1e-3, 100)] | None = None


def _kind_of_santa(value: object) -> str:
    return "numbers" if isinstance(value, dict | SantaOptions) else "switch"


SantaChoice = Annotated[
    Annotated[bool, Field(strict=True), Tag("switch")] | Annotated[SantaOptions, Tag("numbers")],
    Discriminator(_kind_of_santa),
]
"""Whether, or with which numbers; a fault is reported for the one that was given."""


class AnswerOptions(StrictConfig):
    """Decoding of one answer."""

    profile: Profile | None = None
    max_new_tokens: MaxNewTokens | None = None
    temperature: Temperature = 0
    """0 never draws. Above it tokens are drawn by ``seed``, so the same request has the same answer still."""
    top_p: TopP = 1
    seed: Seed = 0
    stop: Annotated[tuple[StopText, ...], Field(max_length=MAX_STOP_TEXTS)] = ()
    """Texts that end the answer; they are not part of it."""
    santa: SantaChoice | None = None
    """False leaves the audio embedding where it is; None does as the model says."""

    @model_validator(mode="after")
    def beams_are_not_drawn(self) -> "AnswerOptions":
        """Drawing needs one row, beams are several."""
        if self.temperature > 0 and self.profile == "paper":
            message = "it draws tokens, and profile 'paper' is a beam search; use 'fast'"
            raise PydanticCustomError(
                "drawn_beams", "{message}", {"message": message, "field": "temperature"}
            )
        return self

    def over(self, own: GenerationConfig) -> GenerationConfig:
        """Combine with a model's own decoding; an answer that is drawn is never a beam search."""
        return GenerationConfig(
            profile="fast" if self.temperature > 0 else self.profile or own.profile,
            max_new_tokens=self.max_new_tokens or own.max_new_tokens,
        )
