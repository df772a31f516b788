"""What one request may choose about its answer; the model's own settings where it chooses nothing."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mats_ray.config.base import StrictConfig
from mats_ray.config.infer import GenerationConfig, Profile


class SantaOptions(StrictConfig):
    """Other numbers for Santa, see ``SantaConfig``; None: the model's."""

    mix: Annotated[float, Field(ge=0, le=1)] | None = None
    num_neighbours: PositiveInt | None = None
    temperature: PositiveFloat | None = None


class AnswerOptions(StrictConfig):
    """Decoding of one answer."""

    profile: Profile | None = None
    max_new_tokens: PositiveInt | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0
    """0 never draws. Above it tokens are drawn by ``seed``, so the same request has the same answer still."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    stop: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(max_length=4)] = ()
    """Texts that end the answer; they are not part of it."""
    santa: bool | SantaOptions | None = None
    """False leaves the audio embedding where it is; None does as the model says."""

    @model_validator(mode="after")
    def beams_are_not_drawn(self) -> "AnswerOptions":
        """Drawing needs one row, beams are several."""
        if self.temperature > 0 and self.profile == "paper":
            raise ValueError(
                f"temperature={self.temperature:g} draws tokens, profile 'paper' is a beam search; use 'fast'"
            )
        return self

    def over(self, own: GenerationConfig) -> GenerationConfig:
        """Combine with a model's own decoding; an answer that is drawn is never a beam search."""
        return GenerationConfig(
            profile="fast" if self.temperature > 0 else self.profile or own.profile,
            max_new_tokens=self.max_new_tokens or own.max_new_tokens,
        )
