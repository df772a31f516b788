"""Options of one answer that a request may set; the model's own settings apply where it sets none.

Requests are not trusted: every number and every list has a bound in its type, for the CLI, HTTP and Python.
"""

from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from mats_ray.config.base import StrictConfig, Within
from mats_ray.config.generation import GenerationConfig, Profile

MIN_TEMPERATURE = 1e-4
"""Lowest temperature above 0; logits divided by less leave the range of float32."""


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
    """Numbers of Santa, see ``SantaConfig``; None: the model's own."""

    mix: Annotated[float, Within(0, 1)] | None = None
    num_neighbours: Annotated[int, Within(1, 1024)] | None = None
    temperature: Annotated[float, Within(1e-3, 100)] | None = None


def _kind_of_santa(value: object) -> str:
    return "numbers" if isinstance(value, dict | SantaOptions) else "switch"


SantaChoice = Annotated[
    Annotated[bool, Field(strict=True), Tag("switch")] | Annotated[SantaOptions, Tag("numbers")],
    Discriminator(_kind_of_santa),
]
"""A switch or numbers; an error is reported for the form that was given."""


class AnswerOptions(StrictConfig):
    """Generation of one answer."""

    profile: Profile | None = None
    max_new_tokens: MaxNewTokens | None = None
    temperature: Temperature = 0
    """0: no sampling. Above 0 tokens are sampled with ``seed``, so the same request has the same answer."""
    top_p: TopP = 1
    seed: Seed = 0
    stop: Annotated[tuple[StopText, ...], Field(max_length=MAX_STOP_TEXTS)] = ()
    """Texts that end the answer; they are not part of it."""
    santa: SantaChoice | None = None
    """False: the audio embedding is not moved. None: the model's own setting."""

    @model_validator(mode="after")
    def beams_are_not_drawn(self) -> "AnswerOptions":
        """Sampling continues one row, a beam search several."""
        if self.temperature > 0 and self.profile == "paper":
            message = "it draws tokens, and profile 'paper' is a beam search; use 'fast'"
            raise PydanticCustomError(
                "drawn_beams", "{message}", {"message": message, "field": "temperature"}
            )
        return self

    def over(self, own: GenerationConfig) -> GenerationConfig:
        """Combine with a model's own settings; an answer that is sampled is never a beam search."""
        return GenerationConfig(
            profile="fast" if self.temperature > 0 else self.profile or own.profile,
            max_new_tokens=self.max_new_tokens or own.max_new_tokens,
        )
