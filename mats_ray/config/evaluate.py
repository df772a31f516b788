"""Configuration of ``mats evaluate``: a model, benchmarks, and how answers are scored."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mats_ray.config.base import StrictConfig
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.generation import GenerationConfig


class BenchmarkInput(StrictConfig):
    """One benchmark and where its files are."""

    name: Annotated[str, Field(min_length=1)]
    """Name of a file in ``mats_ray/evaluate/benchmarks``."""
    annotations: Annotated[str, Field(min_length=1)]
    """Annotation file as published; a folder of audio, or a list of its names, where names are the labels."""
    audio: str | None = None
    """Folder, s3:// or gs:// prefix of the audio; empty: the folder of annotations where names are labels."""
    answers: str | None = None
    """CSV, JSONL or Parquet with columns ``id`` and ``answer``: scored in place of a model's answers."""
    verdicts: str | None = None
    """JSONL with the replies of a judge, for AIR-Bench; see docs/evaluation.md."""


class EvaluateConfig(StrictConfig):
    """What ``mats evaluate --config`` reads."""

    model: str | None = None
    """Model directory; empty where every benchmark has ``answers``."""
    out: Annotated[str, Field(min_length=1)]
    """Folder or s3:// prefix of all results; each benchmark has a folder below."""
    benchmarks: Annotated[list[BenchmarkInput], Field(min_length=1, max_length=1_000)]
    prompt: Literal["upstream_eval", "none"] = "upstream_eval"
    """"upstream_eval": the token of upstream's evaluation stands before the instruction; "none": as in its
    released inference code."""
    embedder: Annotated[str, Field(min_length=1)] = "clap"
    """Embeds labels and answers: ``clap``, a sentence-transformers model, or MODEL@URL of an endpoint."""
    judge: str | None = None
    """MODEL@URL of an OpenAI-compatible endpoint that judges answers of AIR-Bench, key in OPENAI_API_KEY."""
    caption: CaptionConfig = CaptionConfig()
    """How answers are generated, as in a batch job; its windows must be off."""
    generation: GenerationConfig | None = None

    @model_validator(mode="after")
    def names_are_different(self) -> "EvaluateConfig":
        """Each benchmark has one folder."""
        names = [one.name for one in self.benchmarks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"benchmarks names {twice[0]!r} twice; evaluate them in two folders")
        return self

    @model_validator(mode="after")
    def one_answer_per_file(self) -> "EvaluateConfig":
        """A sample has one answer, so its file is not cut."""
        if self.caption.window is not None and self.caption.pool is None:
            raise ValueError(
                "caption.window gives a file several answers; use caption.pool=mean, or no window"
            )
        return self
