"""Configuration of ``mats evaluate``: a model, benchmarks, and how answers are scored."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from mats_ray.config.answer import SantaChoice
from mats_ray.config.base import StrictConfig
from mats_ray.config.bridge import BridgeName, ProjectionConfig, SpectralConfig
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.generation import GenerationConfig
from mats_ray.config.paths import StoragePath


class BenchmarkInput(StrictConfig):
    """One benchmark and where its files are."""

    name: Annotated[str, Field(min_length=1)]
    """Name of a file in ``mats_ray/evaluate/benchmarks``."""
    annotations: Annotated[StoragePath, Field(min_length=1)]
    """Annotation file as published; a folder of audio, or a list of its names, where names are the labels."""
    audio: StoragePath | None = None
    """Folder, s3:// or gs:// prefix of the audio; empty: the folder of annotations where names are labels."""
    answers: StoragePath | None = None
    """CSV, JSONL or Parquet with columns ``id`` and ``answer``: scored in place of a model's answers."""
    verdicts: StoragePath | None = None
    """JSONL with the replies of a judge, for AIR-Bench; see docs/evaluation.md."""


class MemoryVariant(StrictConfig):
    """A bridge's state built anew; None: as the training run's configuration has it."""

    num_rows: PositiveInt | None = None
    """M."""
    num_clusters: PositiveInt | None = None
    """K; 1: no K-means, the neighbours are the nearest of all rows."""
    noise_variance: NonNegativeFloat | None = None
    audio: StoragePath | None = None
    """Folder, s3:// prefix or manifest, for mean_shift."""
    pairs: StoragePath | None = None
    """Audio and texts, for spectral."""


class VariantConfig(StrictConfig):
    """An ablation (paper Tables 5 to 7): what it changes of the model."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    """Name of its folder."""
    model: StoragePath | None = None
    """Another trained model, without noise say; it needs the same CLAP."""
    santa: SantaChoice | None = None
    """False: no Santa; or numbers L (num_neighbours), tau (temperature), lambda (mix)."""
    bridge: BridgeName | None = None
    """Another bridge than the model's; its state is the model directory's, or built from ``training``."""
    projection: ProjectionConfig | None = None
    spectral: SpectralConfig | None = None
    memory: MemoryVariant | None = None

    @model_validator(mode="after")
    def numbers_belong_to_the_bridge(self) -> "VariantConfig":
        """Refuse numbers of a bridge that the variant does not have."""
        if self.bridge not in (None, "santa") and self.santa is not None:
            raise ValueError(f"variant {self.name!r} has numbers of Santa and the bridge {self.bridge!r}")
        for key in ("projection", "spectral"):
            if getattr(self, key) is not None and self.bridge != key:
                raise ValueError(f"variant {self.name!r} has numbers of {key}; name it as its bridge, too")
        return self


class EvaluateConfig(StrictConfig):
    """What ``mats evaluate --config`` reads."""

    model: StoragePath | None = None
    """Model directory; empty where every benchmark has ``answers``."""
    rehearsal: bool = False
    """Evaluate a model that was trained on stand-ins; its scores mean nothing."""
    out: Annotated[StoragePath, Field(min_length=1)]
    """Folder or s3:// prefix of all results; each benchmark has a folder below."""
    benchmarks: Annotated[list[BenchmarkInput], Field(min_length=1, max_length=1_000)]
    prompt: Literal["upstream_eval", "none"] = "upstream_eval"
    """"upstream_eval": the token of upstream's evaluation stands before the instruction; "none": as in its
    released inference code."""
    embedder: Annotated[str, Field(min_length=1)] = "clap"
    """Embeds labels and answers: ``clap``, a sentence-transformers model, or MODEL@URL of an endpoint."""
    judge: str | None = None
    """MODEL@URL of an OpenAI-compatible endpoint that judges answers of AIR-Bench, key in OPENAI_API_KEY."""
    variants: Annotated[tuple[VariantConfig, ...], Field(max_length=1_000)] = ()
    """Ablations, each answered from the same audio embeddings, into OUT/<variant>; the first is what the
    others are compared with."""
    training: tuple[str, ...] = ()
    """Configuration files of the training run, for variants with a memory of their own."""
    caption: CaptionConfig = CaptionConfig()
    """How answers are generated, as in a batch job; its windows must be off."""
    generation: GenerationConfig | None = None

    @model_validator(mode="after")
    def names_are_different(self) -> "EvaluateConfig":
        """Each benchmark, and each variant, has one folder."""
        for key, names in (
            ("benchmarks", [one.name for one in self.benchmarks]),
            ("variants", [one.name for one in self.variants]),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{key} names {twice[0]!r} twice; each has one folder")
        return self

    @model_validator(mode="after")
    def variants_have_a_model(self) -> "EvaluateConfig":
        """Answers of a file have no variants."""
        if self.variants and any(one.answers for one in self.benchmarks):
            raise ValueError("variants are of a model, and a benchmark has a file of answers")
        return self

    @model_validator(mode="after")
    def one_answer_per_file(self) -> "EvaluateConfig":
        """A sample has one answer, so its file is not cut."""
        if self.caption.window is not None and self.caption.pool is None:
            raise ValueError(
                "caption.window gives a file several answers; use caption.pool=mean, or no window"
            )
        return self
