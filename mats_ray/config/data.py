"""Section ``data``: how annotation files become triplets, are embedded, and are mixed for training."""

from typing import Annotated, Literal, cast

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator
from pydantic_core import PydanticCustomError

from mats_ray.config.base import StrictConfig

Split = Literal["train", "val", "test"]


class SourceConfig(StrictConfig):
    """One set of annotation files to read."""

    source: str
    """Name in the table of sources (docs/data.md)."""
    path: Annotated[str, Field(min_length=1)]
    """File, folder or s3:// prefix; in a folder, files are found by their published names."""
    split: Split | None = None
    """Split of a file whose name does not contain it."""
    splits: tuple[Split, ...] | None = None
    """Splits to train on; the source's own choice when absent."""
    companions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Further files the source needs, by role: blacklist, names, captions, metadata."""
    copies: PositiveInt | None = None
    """Number of rows per labelled clip, each with another sentence; the source's own number when absent."""

    @field_validator("companions", mode="before")
    @classmethod
    def one_path_is_enough(cls, value: object) -> object:
        """Read ``names: file`` as ``names: [file]``."""
        if not isinstance(value, dict):
            return value
        return {role: [paths] if isinstance(paths, str) else paths for role, paths in value.items()}  # pyright: ignore[reportUnknownVariableType]


class PrepareConfig(StrictConfig):
    """``mats prepare``: annotation files to triplets."""

    sources: tuple[SourceConfig, ...] = ()
    license_allow: tuple[str, ...] = ()
    """Rows of other licences are dropped; empty: none are."""
    descriptions: str | None = None
    """JSON Lines of ``label`` and ``text`` (or ``texts``) to use instead of generated sentences."""
    max_rejected_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Largest share of unusable records; more fail the job."""
    rows_per_file: PositiveInt = 50_000
    """Triplets per Parquet file, all of which one task holds in memory."""
    concurrency: PositiveInt = 2
    """Number of annotation files read at once."""


class MixtureConfig(StrictConfig):
    """How sources are mixed into training batches."""

    by: Literal["rows", "source"] = "rows"
    """"rows": in proportion to their rows, mixed in each batch. "source": as in the paper, every batch from
    one source, chosen by its weight; needs embeddings that were written with this setting."""
    weights: dict[str, PositiveFloat] = Field(default_factory=dict)
    """With "source": sampling weight of every source of the data, and of no other. Empty: the paper's."""

    @field_validator("weights", mode="before")
    @classmethod
    def weights_are_not_booleans(cls, value: object) -> object:
        """Refuse ``true``, which would be read as 1."""
        weights = cast("dict[object, object]", value) if isinstance(value, dict) else {}
        if any(isinstance(weight, bool) for weight in weights.values()):
            raise PydanticCustomError("number_type", "Weights should be numbers")
        return value  # pyright: ignore[reportUnknownVariableType]

    @model_validator(mode="after")
    def weights_are_for_batches(self) -> "MixtureConfig":
        """Refuse weights that would be ignored."""
        if self.weights and self.by == "rows":
            raise ValueError("weights need by: source; by: rows mixes in proportion to rows")
        return self


class EmbedConfig(StrictConfig):
    """CLAP text embedding with Ray Data."""

    mode: Literal["stored", "online"] = "stored"
    """"online": CLAP runs while training, on its own actors, and nothing is stored. ``embed: online`` is
    short for this with everything else at its default."""
    batch_size: PositiveInt = 256
    """Texts per forward pass."""
    rows_per_partition: PositiveInt = 50_000
    """Approximate number of rows per part. Texts are hashed into parts, so equal texts are in one part and
    embedded once. One actor holds one part, one file stores it, and a killed job
    repeats its unfinished parts."""
    num_partitions: PositiveInt | None = None
    """Number of parts, for any number of rows; replaces ``rows_per_partition``."""
    concurrency: PositiveInt = 1
    """Number of embedding actors."""
    cpus_per_actor: PositiveFloat = 1
    gpus_per_actor: Annotated[float, Field(ge=0)] = 0


class DataConfig(StrictConfig):
    """Paths of training data, below output_dir where empty; mixing and embedding."""

    triplets: str | None = None
    """Parquet of (text, instruction, answer) triplets: a file, a folder or an s3:// prefix."""
    embedded: str | None = None
    """The same rows with their CLAP embedding."""
    splits: tuple[str, ...] = ("train",)
    """Splits for training and for the Santa memory; rows without a split are used, too."""
    prepare: PrepareConfig = PrepareConfig()
    mixture: MixtureConfig = MixtureConfig()
    embed: EmbedConfig = EmbedConfig()
    chunk_rows: PositiveInt = 4096
    """Rows read, shuffled and noised at a time by one Ray Data task while training."""
    group_by_length: bool = True
    """Put rows of like length into one micro-batch, within each global batch: less padding, the same loss."""

    @field_validator("embed", mode="before")
    @classmethod
    def a_mode_is_enough(cls, value: object) -> object:
        """Read ``embed: online`` as ``embed: {mode: online}``."""
        return {"mode": value} if isinstance(value, str) else value
