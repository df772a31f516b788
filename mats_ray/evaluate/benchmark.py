"""What a benchmark is: samples, a prompt, a scorer. Each is one file of ``evaluate/benchmarks``."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Rejected
from mats_ray.errors import ConfigError
from mats_ray.evaluate import benchmarks
from mats_ray.evaluate.measure import Measure

PromptMode = Literal["upstream_eval", "none"]
"""Whether prompts hold the token that upstream's evaluation put before the instruction, ``[single event]``
say; its released inference code has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One item of a benchmark."""

    id: str
    """Unique in the benchmark, and the same whenever its files are read."""
    audio: tuple[str, ...]
    """Names under which its audio is published or commonly stored, best first: with an extension or
    without, and with folders where only they tell two files apart."""
    references: tuple[str, ...]
    """Its labels, captions or answer; empty where the answers of a split are not published."""
    question: str = ""
    """Text of the prompt where every sample has its own."""
    choices: tuple[str, ...] = ()
    categories: Mapping[str, str] = field(default_factory=dict[str, str])
    """Values by column, for tables by category."""


Entry = Sample | Dropped | Rejected
"""A record of an annotation file: a sample, one that is left out for a reason, or one that is not usable."""
SampleReader = Callable[[AnnotationFile], Iterator[Entry]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A sample and what was answered."""

    sample: Sample
    answer: str
    """Empty where there is none: it scores as wrong, and is counted."""


class TextEmbedder(Protocol):
    """Embeds texts, for label matching."""

    @property
    def name(self) -> str:
        """Stands in every result: scores by two embedders cannot be compared."""
        ...

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, (N, C) float32."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What scorers may need beside the records."""

    embedder: Callable[[], TextEmbedder]
    """Loads the embedder when it is first needed.

    Raises:
        MATSError: There is none.
    """
    verdicts: Mapping[str, float] = field(default_factory=dict[str, float])
    """Score of a judge, 1 to 10, by id of the sample."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a scorer finds out."""

    measures: Mapping[str, Measure]
    """By name, the main one first; empty where none can be had."""
    unavailable: Mapping[str, str] = field(default_factory=dict[str, str])
    """Reason by name of each measure that cannot be had here."""
    predictions: Sequence[str] = ()
    """Label or choice that each answer was matched to, "" for none; empty where nothing is matched."""
    per_class: Mapping[str, float] = field(default_factory=dict[str, float])
    """Value by label, where it is not that of the main measure over the samples of this label."""
    details: Mapping[str, str] = field(default_factory=dict[str, str])
    """How it was computed: embedder, tokenizer, number of labels."""


Scorer = Callable[[Sequence[Record], Resources], Scores]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """How answers go to the authors' own script or server: their items, each with its answer."""

    file: str
    """Name of the file that is written: JSON Lines if it ends in .jsonl, else a JSON list."""
    id_key: str
    answer_key: str


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark; all texts are facts about it, shown in the report."""

    name: str
    """Name of its file in ``evaluate/benchmarks``."""
    title: str
    paper: str
    """Authors, year, where it was published."""
    license: str
    """Licence of the annotations, as their authors state it; "unknown" where none is found."""
    source: str
    """Where annotations and audio are published."""
    files: tuple[str, ...]
    """Patterns of the whole names of the published annotation files of the evaluated split; empty: names of
    audio files are the annotation, and a folder or a list of names is read. A renamed file is read, too."""
    other_files: tuple[str, ...] = ()
    """Patterns of published files of other splits: given instead, they are refused."""
    split: str
    """The evaluated split, in its authors' words."""
    size: int
    """Number of samples of that split as published."""
    read: SampleReader
    score: Scorer
    prompt: str = ""
    """Instruction of every sample; empty: each has its own question."""
    upstream_prefix: str = ""
    """Special token, brackets included, that upstream's evaluation puts before the instruction."""
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    """Published results by measure of ``score``, then by model; shares as 0 to 1, as the measure has them."""
    submission: Submission | None = None
    """None: the authors have no script that reads answers."""
    note: str = ""
    """What a reader of a score must know; one sentence."""
    version: int = 1
    """Counts changes of samples, prompt or scorer that change scores."""

    @property
    def reads(self) -> str:
        """Names of the annotation files, for people."""
        return " or ".join(self.files).replace("\\", "") or "names of audio files"

    def instruction(self, sample: Sample, mode: PromptMode) -> str:
        """Return the text between audio and answer: upstream's token, if wanted, and prompt or question."""
        text = self.prompt or sample.question
        return f"{self.upstream_prefix} {text}" if mode == "upstream_eval" and self.upstream_prefix else text


def benchmark_names() -> list[str]:
    """List the names of all benchmarks."""
    return sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))


def find_benchmark(name: str) -> Benchmark:
    """Return a benchmark.

    Raises:
        ConfigError: There is none of this name.
    """
    if name not in (names := benchmark_names()):
        raise ConfigError(f"benchmark {name!r} is unknown; there are {', '.join(names)}")
    return importlib.import_module(f"{benchmarks.__name__}.{name}").BENCHMARK
