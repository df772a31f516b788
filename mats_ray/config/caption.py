"""Section ``caption``: the batch job."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mats_ray.config.base import StrictConfig


class CaptionConfig(StrictConfig):
    """Captioning a bucket with Ray Data."""

    batch_size: PositiveInt = 32
    concurrency: PositiveInt = 1
    """Model actors."""
    decode_concurrency: PositiveInt = 1
    cpus_per_actor: PositiveFloat = 1
    gpus_per_actor: Annotated[float, Field(ge=0)] = 0
    max_seconds: PositiveFloat = 43_200
    """Longer audio becomes an error row; whatever is shorter is never in memory whole beyond some minutes."""
    max_bytes: PositiveInt = 8 * 2**30
    """A larger file, as it is stored, becomes an error row."""
    window: Literal["clap"] | PositiveFloat | None = None
    """Cut files into windows of so many seconds, or as long as CLAP hears at once, with a row each. Without,
    a file has one row, from the mean over CLAP's windows."""
    hop: PositiveFloat | None = None
    """Seconds from the start of one window to the next; as long as they are by default."""
    pool: Literal["mean"] | None = None
    """One row all the same, from the mean over these windows."""
    format: Literal["parquet", "jsonl"] = "parquet"
    """Of the rows."""
    max_error_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    """More error rows than this fail the job at its end, with every row written."""

    @model_validator(mode="after")
    def windows_make_sense(self) -> "CaptionConfig":
        """A hop beyond the window would leave sound unheard, without a word."""
        if self.window is None and self.hop is not None:
            raise ValueError(f"hop={self.hop:g} is given without a window")
        if isinstance(self.window, float | int) and self.hop is not None and self.hop > self.window:
            raise ValueError(f"hop={self.hop:g} is more than window={self.window:g}: sound would be left out")
        return self
