"""``scores.json`` of one benchmark, checked when it is read; other fields than these are not shown."""

import json
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mats_ray.errors import DataError
from mats_ray.storage import read_bytes


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class MeasureScore(_Part):
    """A measure over all samples, missing audio counted as wrong."""

    value: float
    n: int
    error: float = 0.0
    """Standard error."""
    low: float
    high: float
    """95 % interval."""
    chance: float | None = None
    value_with_audio: float | None = None
    """Over the samples whose audio is there; None: all of it is."""
    n_with_audio: int | None = None


class PartScore(_Part):
    """The main measure over a part of the samples."""

    value: float
    n: int


class SampleCounts(_Part):
    """What became of the samples."""

    published: int
    annotated: int
    left_out: Mapping[str, int] = {}
    """Records of the annotation file that are no samples, by reason."""
    first_rejected: str = ""
    answered: int
    empty: int = 0
    errors: Mapping[str, int] = {}
    missing_audio: int = 0
    ambiguous_audio: int = 0
    """Samples whose audio has a name that several files have: they have none, either."""

    @property
    def without_audio(self) -> int:
        """Number of samples that were scored without audio."""
        return self.missing_audio + self.ambiguous_audio

    @property
    def is_partial(self) -> bool:
        """Whether other samples than all that are published were scored."""
        return self.annotated != self.published


class Confusion(_Part):
    """How often the samples of each label were answered with each label."""

    labels: Sequence[str]
    counts: Sequence[Sequence[int]]
    """A row for each label of the references, a column for each label of the answers."""
    unmatched: Sequence[int] = ()
    """Answers to the samples of each label that match no label."""

    @model_validator(mode="after")
    def _is_square(self) -> "Confusion":
        num_labels = len(self.labels)
        lengths = {len(self.counts), *map(len, self.counts), len(self.unmatched or self.labels)}
        if lengths != {num_labels}:
            raise ValueError(f"counts of {num_labels} labels must be {num_labels} rows of as many")
        return self


class PromptUsed(_Part):
    """How the prompts were made."""

    mode: str = ""
    prefix: str = ""
    example: str = ""


class BenchmarkScores(_Part):
    """The whole file."""

    benchmark: str
    title: str
    version: int = 1
    split: str = ""
    note: str = ""
    paper: str = ""
    license: str = ""
    source: str = ""
    measures: Mapping[str, MeasureScore]
    """The main one first."""
    unavailable: Mapping[str, str] = {}
    samples: SampleCounts
    per_class: Mapping[str, PartScore] = {}
    per_category: Mapping[str, Mapping[str, PartScore]] = {}
    confusion: Confusion | None = None
    results: Mapping[str, Mapping[str, float]] = {}
    """Published values by measure and model."""
    details: Mapping[str, str] = {}
    model: Mapping[str, str | None] = {}
    decoding: str = ""
    prompt: PromptUsed = PromptUsed()
    versions: Mapping[str, str] = {}
    revision: str = ""
    created: str = ""

    @property
    def are_given(self) -> bool:
        """Whether the answers came from a file: then a model is known by its name alone."""
        return set(self.model) <= {"id"}

    @property
    def main(self) -> str:
        """Name of the main measure; empty where no measure could be had."""
        return next(iter(self.measures), "")


def read_scores(path: str) -> BenchmarkScores:
    """Read the scores of one benchmark.

    Args:
        path: ``scores.json``, local or remote.

    Raises:
        DataError: It is not such a file; names the first field that is wrong.
        StorageError: It cannot be read.
    """
    try:
        return BenchmarkScores.model_validate(json.loads(read_bytes(path)))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path} is not a file of scores: {place}: {first['msg']}") from error
    except ValueError as error:
        raise DataError(f"{path} is not a file of scores: it is no JSON: {error}") from error
