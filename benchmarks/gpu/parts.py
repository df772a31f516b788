"""The parts of the suite, and what each of them returns."""

import importlib
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.gpu.sizes import Size


@dataclass(frozen=True)
class Table:
    """Rows of measurements under one heading."""

    title: str
    columns: list[str]
    rows: list[list[Any]]

    @classmethod
    def of(cls, title: str, records: list[dict[str, Any]]) -> "Table":
        """Make a table of records with the same keys."""
        columns = list(records[0])
        return cls(title, columns, [[record[name] for name in columns] for record in records])


@dataclass(frozen=True)
class Outcome:
    """What a part has measured."""

    figures: dict[str, float]
    """Numbers by name; goals refer to them."""
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""
    failures: list[str] = field(default_factory=list)
    """What was measured and is wrong; the part has then failed."""

    def tree(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A module of this package with a function ``run(size, device)``, in a process of its own."""

    name: str
    module: str
    limit_s: int
    """Seconds after which its process is ended; together 25 minutes at most."""
    needs: tuple[str, ...]
    """Packages besides torch without which it cannot run."""

    def run(self, size: Size, device: str) -> Outcome:
        """Measure, in this process."""
        return importlib.import_module(self.module).run(size, device)


_MODEL = ("transformers", "tokenizers", "safetensors", "pydantic", "peft")
_AUDIO = (*_MODEL, "soundfile", "soxr")
PARTS = (
    Part(name="tests", module="benchmarks.gpu.checks", limit_s=300, needs=(*_MODEL, "pytest")),
    Part(name="training", module="benchmarks.gpu.training", limit_s=300, needs=(*_MODEL, "accelerate")),
    Part(name="clap", module="benchmarks.gpu.clap", limit_s=120, needs=_MODEL),
    Part(name="generation", module="benchmarks.gpu.generation", limit_s=300, needs=_MODEL),
    Part(name="caption", module="benchmarks.gpu.caption", limit_s=240, needs=(*_AUDIO, "pyarrow")),
    Part(
        name="service",
        module="benchmarks.gpu.service",
        limit_s=240,
        needs=(*_AUDIO, "fastapi", "uvicorn", "aiohttp", "python_multipart", "prometheus_client"),
    ),
)
BY_NAME = {part.name: part for part in PARTS}
