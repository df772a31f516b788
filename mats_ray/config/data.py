"""Section ``data``: how annotation files become triplets, are embedded, and are mixed for training."""

from typing import Annotated, Literal, cast

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator
from pydantic_core import PydanticCustomError

from mats_ray.config.base import StrictConfig, Within
from mats_ray.config.paths import StoragePath
from mats_ray.tasks import Task

Split = Literal["train", "val", "test"]
ColumnName = Annotated[str, Field(min_length=1, max_length=256)] | None
TABLE = "table"
"""The source that reads a table of one's own."""


class TableColumns(StrictConfig):
    """Names of the columns of an own table, without regard to case and surrounding spaces.

    A column that is not named here is found by the name of its key, ``text`` also as ``caption`` and
    ``instruction`` also as ``question``; all but the text may be absent.
    """

    text: ColumnName = None
    """Text in place of the audio."""
    instruction: ColumnName = None
    """Question or other instruction; where it is empty, one is drawn from the prompts of the task."""
    answer: ColumnName = None
    """Where it is empty, the text is the answer."""
    task: ColumnName = None
    split: ColumnName = None
    license: ColumnName = None


class TableDefaults(StrictConfig):
    """Values of an own table's rows that have none of their own."""

    instruction: str | None = None
    answer: str | None = None
    task: Task | None = None
    """When absent: ``qa`` for rows with an instruction, else ``caption``."""
    license: Annotated[str, Field(min_length=1)] = "unknown"


class SourceConfig(StrictConfig):
    """One set of annotation files to read."""

    source: str
    """Name in the table of sources (docs/data.md)."""
    path: Annotated[StoragePath, Field(min_length=1)]
    """File, folder or s3:// prefix; in a folder, files are found by their published names."""
    split: Split | None = None
    """Split of a file whose name does not contain it."""
    splits: tuple[Split, ...] | None = None
    """Splits to train on; the source's own choice when absent."""
    companions: dict[str, tuple[StoragePath, ...]] = Field(default_factory=dict)
    """Further files the source needs, by role: blacklist, names, captions, metadata."""
    copies: PositiveInt | None = None
    """Number of rows per labelled clip, each with another sentence; the source's own number when absent."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")] | None = None
    """Source name of the rows of a ``table``; the file's name when absent."""
    columns: TableColumns = TableColumns()
    """Columns of a ``table``."""
    defaults: TableDefaults = TableDefaults()
    """Values for what rows of a ``table`` lack; for their split it is the key ``split``, or "train"."""

    @field_validator("companions", mode="before")
    @classmethod
    def one_path_is_enough(cls, value: object) -> object:
        """Read ``names: file`` as ``names: [file]``."""
        if not isinstance(value, dict):
            return value
        return {role: [paths] if isinstance(paths, str) else paths for role, paths in value.items()}  # pyright: ignore[reportUnknownVariableType]

    @model_validator(mode="after")
    def tables_alone_have_columns(self) -> "SourceConfig":
        """Refuse keys that a published source would ignore."""
        usual = SourceConfig.model_fields
        given = [
            key for key in ("name", "columns", "defaults") if getattr(self, key) != usual[key].get_default()
        ]
        if given and self.source != TABLE:
            raise ValueError(f"{given[0]} is for source: {TABLE}, {self.source} has its published columns")
        return self


class PrepareConfig(StrictConfig):
    """``mats prepare``: annotation files to triplets."""

    sources: tuple[SourceConfig, ...] = ()
    license_allow: tuple[str, ...] = ()
    """Rows of other licences are dropped; empty: none are."""
    descriptions: StoragePath | None = None
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
    gpus_per_actor: Annotated[float, Within(0, 1)] = 0


class DataConfig(StrictConfig):
    """Paths of training data, below output_dir where empty; mixing and embedding."""

    triplets: StoragePath | None = None
    """Parquet of (text, instruction, answer) triplets: a file, a folder or an s3:// prefix."""
    embedded: StoragePath | None = None
    """The same rows with their CLAP embedding."""
    splits: tuple[str, ...] = ("train",)
    """Splits for training and for the Santa memory; rows without a split are used, too."""
    prepare: PrepareConfig = PrepareConfig()
    mixture: MixtureConfig = MixtureConfig()
    embed: EmbedConfig = EmbedConfig()
    chunk_rows: PositiveInt = 4096
    """Rows per row group: read at a time, and shuffled among themselves, while training."""
    group_by_length: bool = True
    """Put rows of like length into one micro-batch, within each global batch: less padding, the same loss."""

    @field_validator("embed", mode="before")
    @classmethod
    def a_mode_is_enough(cls, value: object) -> object:
        """Read ``embed: online`` as ``embed: {mode: online}``."""
        return {"mode": value} if isinstance(value, str) else value
