"""A small benchmark, and entries of a reader of samples."""

from collections import Counter

from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Rejected
from mats_ray.evaluate.benchmark import Benchmark, Sample, Scores


class Entries:
    """Samples, dropped and rejected records of a file."""

    def __init__(self, read, path, *, split="the test split"):
        entries = list(read(AnnotationFile(str(path), split)))
        self.samples = [one for one in entries if isinstance(one, Sample)]
        self.dropped = Counter(one.reason for one in entries if isinstance(one, Dropped))
        self.rejected = [(one.number, one.reason) for one in entries if isinstance(one, Rejected)]

    @property
    def ids(self):
        return [one.id for one in self.samples]

    @property
    def references(self):
        return [one.references for one in self.samples]


def benchmark_of(read, **changes):
    """Make a benchmark of a reader."""
    facts = {
        "name": "bells",
        "title": "Bells",
        "paper": "Ringer, 2020",
        "license": "unknown",
        "source": "example.org",
        "files": (r"bells_test\.csv", r"bells\.json"),
        "other_files": (r"bells_(train|val)\.csv",),
        "split": "test",
        "size": 2,
        "read": read,
        "score": lambda records, resources: Scores(measures={}),
        "prompt": "Name the bell.",
    }
    return Benchmark(**facts | changes)
