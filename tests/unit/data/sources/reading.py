"""Raw files as their authors publish them, read by the source they belong to."""

from collections import Counter
from pathlib import Path

import pytest

from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Rejected, Row
from mats_ray.data.sources.registry import SOURCES

ANNOTATIONS = Path(__file__).resolve().parents[5] / "shared" / "data" / "annotations"


def annotations(name: str) -> Path:
    """A real annotation file beside the checkout; skips where there is none."""
    if not (ANNOTATIONS / name).is_file():
        pytest.skip(f"no real annotations at {ANNOTATIONS}")
    return ANNOTATIONS / name


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Write a raw file, byte for byte."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


class Read:
    """Rows, dropped and rejected records of a file."""

    def __init__(self, source: str, path: Path, **companions: Path | str) -> None:
        beside = {role: (str(one),) for role, one in companions.items()}
        entries = list(SOURCES[source].read(AnnotationFile(str(path), "train", beside)))
        self.rows = [one for one in entries if isinstance(one, Row)]
        self.dropped = Counter(one.reason for one in entries if isinstance(one, Dropped))
        self.rejected = [(one.number, one.reason) for one in entries if isinstance(one, Rejected)]

    @property
    def texts(self) -> list[str]:
        return [row.text for row in self.rows]

    @property
    def labels(self) -> list[tuple[str, ...]]:
        return [row.labels for row in self.rows]

    @property
    def keys(self) -> list[str]:
        return [row.key for row in self.rows]
