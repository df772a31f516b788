"""Annotation files as published to samples: counted, and checked to be the benchmark's own."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Reader, Rejected, Row
from mats_ray.errors import DataError
from mats_ray.evaluate.benchmark import Benchmark, Entry, Sample, SampleReader

OTHER_SPLIT = "of another split"
DUPLICATE = "duplicate id"
_WORD = re.compile(r"\w")


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """Samples of one benchmark and what was not used of its files."""

    samples: Sequence[Sample]
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    """Number of records by the reason they are no samples."""
    first_rejected: str = ""
    """Place and reason of the first record that is not usable."""

    @property
    def num_left_out(self) -> int:
        """Number of records that are no samples."""
        return sum(self.left_out.values())


def file_name(key: str) -> tuple[str, ...]:
    """Name a sample and its audio by the file alone, whatever folder was listed."""
    return (PurePosixPath(key).name,)


def labelled(
    reader: Reader, *, split: str = "", names: Callable[[str], tuple[str, ...]] = lambda key: (key,)
) -> SampleReader:
    """Make a reader of labelled samples of a reader of training rows; their keys name the audio.

    Args:
        reader: Of ``data.sources``.
        split: Rows that name another split are left out; empty: all are samples.
        names: Names of the audio by key; the first one is the sample's id.
    """

    def read(file: AnnotationFile) -> Iterator[Entry]:
        for entry in reader(file):
            if not isinstance(entry, Row):
                yield entry
            elif split and entry.split and entry.split != split:
                yield Dropped(entry.number, OTHER_SPLIT)
            else:
                audio = names(entry.key)
                yield Sample(id=audio[0], audio=audio, references=entry.labels)

    return read


def read_samples(
    benchmark: Benchmark, path: str, companions: Mapping[str, tuple[str, ...]] | None = None
) -> Annotations:
    """Read the samples of an annotation file, local or remote.

    Args:
        benchmark: Its reader knows the format.
        path: File; or folder of audio, or list of names, where names are the annotation.
        companions: Paths of other files by role.

    Raises:
        DataError: It is the file of another split or another benchmark, or has no sample.
    """
    file = AnnotationFile(path, benchmark.split, companions or {})
    _check_name(benchmark, file.name)
    samples, left_out, first_rejected = dict[str, Sample](), Counter[str](), ""
    for entry in map(_checked, benchmark.read(file)):
        if isinstance(entry, Sample):
            if samples.setdefault(entry.id, entry) is not entry:
                left_out[DUPLICATE] += 1
            continue
        left_out[entry.reason if isinstance(entry, Dropped) else "not usable"] += 1
        if isinstance(entry, Rejected) and not first_rejected:
            first_rejected = f"{path}, record {entry.number}: {entry.reason}"
    if not samples:
        why = first_rejected or f"{sum(left_out.values())} records left out"
        raise DataError(f"{path} has no sample of {benchmark.name}: {why}")
    return Annotations(
        samples=list(samples.values()), left_out=dict(left_out.most_common()), first_rejected=first_rejected
    )


def _check_name(benchmark: Benchmark, name: str) -> None:
    if any(re.fullmatch(pattern, name) for pattern in benchmark.other_files):
        raise DataError(
            f"{name} is a file of another split or kind than {benchmark.name} evaluates; it reads "
            f"{benchmark.split}: {benchmark.reads}"
        )


def _checked(entry: Entry) -> Entry:
    """Reject a sample with a reference that no answer could equal."""
    if isinstance(entry, Sample) and not all(map(_WORD.search, entry.references)):
        return Rejected(0, f"{entry.id} has a reference without words")
    return entry
