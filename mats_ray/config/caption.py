"""Section ``caption``: the batch job."""

import itertools
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from mats_ray.config.base import StrictConfig, Within
from mats_ray.config.paths import StoragePath

ErrorCode = Literal[
    "not_found",
    "read_failed",
    "changed",
    "empty",
    "not_audio",
    "unsupported",
    "truncated",
    "damaged",
    "not_finite",
    "too_long",
    "too_large",
    "prompt_too_long",
    "answer_failed",
]
"""Codes of rows with errors: those of ``errors.AudioError`` and ``errors.AnswerError``."""


class CaptionConfig(StrictConfig):
    """Captioning a bucket with Ray Data."""

    batch_size: PositiveInt = 32
    concurrency: PositiveInt = 1
    """Number of model actors."""
    decode_concurrency: PositiveInt = 1
    """Number of decoding actors."""
    cpus_per_actor: PositiveFloat = 1
    gpus_per_actor: Annotated[float, Within(0, 1)] = 0
    max_seconds: PositiveFloat = 43_200
    """Longest audio in seconds; longer audio becomes an error row. Files are decoded in blocks of minutes, so
    a long one is never in memory whole."""
    max_bytes: PositiveInt = 8 * 2**30
    """Largest file as it is stored, in bytes; a larger one becomes an error row."""
    window: Literal["clap"] | PositiveFloat | None = None
    """Cut files into windows with a row each: length in seconds, or "clap" for CLAP's own window. Without it
    a file has one row, from the mean over CLAP's windows."""
    hop: PositiveFloat | None = None
    """Seconds from the start of one window to the next; by default the window's length."""
    pool: Literal["mean"] | None = None
    """One row per file, from the mean over these windows."""
    always_caption: bool = False
    """Caption files that have questions or are compared with labels, too; one row more for each."""
    embeddings: StoragePath | None = None
    """Folder or s3:// prefix that keeps the files' audio embeddings: another job about the same files, of any
    model with the same CLAP, then reads no audio. Not with a window, which gives a file several."""
    prefixes: tuple[str, ...] = ()
    """Beginnings of names below an s3:// prefix that are listed at the same time, and nothing else is:
    ["2026/01/", "2026/02/"], or ["0", "1", "2"] where there are no folders. By default the folders found
    there."""
    format: Literal["parquet", "jsonl", "lance"] = "parquet"
    """File format of the rows; lance is a table, ``rows.lance`` (pip install 'mats-ray[lance]')."""
    part_rows: Annotated[int, Field(ge=1_000, le=2_000_000)] = 250_000
    """Number of rows of a file of the output. The file at hand is in memory."""
    retry: tuple[ErrorCode, ...] = ()
    """Codes of errors whose rows are computed again; ``read_failed`` and ``changed`` always are."""
    max_error_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Largest share of error rows; with more the job fails at its end, after all rows are written."""

    @field_validator("prefixes")
    @classmethod
    def prefixes_are_apart(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse prefixes of which one begins with another: files would be listed twice."""
        ordered = sorted(prefixes)
        for one, other in itertools.pairwise(ordered):
            if other.startswith(one):
                raise ValueError(f"{other!r} begins with {one!r}, and would be listed twice")
        return prefixes

    @model_validator(mode="after")
    def windows_make_sense(self) -> "CaptionConfig":
        """Refuse a hop longer than the window, which would skip audio silently, and windows to be kept."""
        if self.window is not None and self.embeddings is not None:
            raise ValueError("embeddings keeps one embedding per file, and window gives it several")
        if self.window is None and self.hop is not None:
            raise ValueError(f"hop={self.hop:g} is given without a window")
        if isinstance(self.window, float | int) and self.hop is not None and self.hop > self.window:
            raise ValueError(f"hop={self.hop:g} is more than window={self.window:g}: sound would be left out")
        return self
