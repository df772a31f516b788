"""The parts of the suite, and what each of them measures."""

import importlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
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


@dataclass
class Outcome:
    """What a part has measured so far. A part may run out of time: what it has then is in the file."""

    figures: dict[str, float] = field(default_factory=dict)
    """Numbers by name; goals refer to them."""
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""
    failures: list[str] = field(default_factory=list)
    """What was measured and is wrong; the part has then failed."""
    file: Path | None = None

    def add(self, title: str, record: dict[str, Any]) -> None:
        """Append a row to the table of that title, and write everything."""
        table = next((one for one in self.tables if one.title == title), None)
        if table is None:
            self.tables.append(Table.of(title, [record]))
        else:
            table.rows.append([record[name] for name in table.columns])
        self.write()

    def write(self) -> None:
        """Write everything, if there is a file: whole, as the process may be ended meanwhile."""
        if self.file is None:
            return
        new = self.file.with_suffix(".writing")
        new.write_text(json.dumps(self.tree()))
        new.replace(self.file)

    def tree(self) -> dict[str, Any]:
        """Return it as JSON's types, without the file."""
        return {name: value for name, value in asdict(self).items() if name != "file"}


@dataclass(frozen=True, kw_only=True)
class Part:
    """A module of this package with a function ``run(size, device, outcome)``, in a process of its own."""

    name: str
    module: str
    limit_s: int
    """Seconds after which its process is ended; together 25 minutes at most."""
    needs: tuple[str, ...]
    """Packages besides torch without which it cannot run."""
    after: str | None = None
    """The part that makes what it loads; without that it makes it itself, in its own time."""

    def run(self, size: Size, device: str, outcome: Outcome) -> None:
        """Measure, in this process."""
        importlib.import_module(self.module).run(size, device, outcome)
        outcome.write()


_MODEL = ("transformers", "tokenizers", "safetensors", "pydantic", "peft")
_AUDIO = (*_MODEL, "soundfile", "soxr")
_HTTP = ("fastapi", "uvicorn", "aiohttp", "python_multipart", "prometheus_client")


def _part(name: str, limit_s: int, needs: tuple[str, ...], *, after: str | None = None) -> Part:
    return Part(name=name, module=f"benchmarks.gpu.{name}", limit_s=limit_s, needs=needs, after=after)


PARTS = (
    Part(name="tests", module="benchmarks.gpu.checks", limit_s=240, needs=(*_MODEL, "pytest")),
    _part("training", 270, (*_MODEL, "accelerate")),
    _part("clap", 90, _MODEL),
    _part("stand_in", 120, (*_MODEL, "soundfile")),
    _part("generation", 240, _MODEL, after="stand_in"),
    _part("caption", 210, (*_AUDIO, "pyarrow"), after="stand_in"),
    _part("service", 300, (*_AUDIO, *_HTTP), after="stand_in"),
)
BY_NAME = {part.name: part for part in PARTS}


def with_those_before(names: Collection[str]) -> list[str]:
    """Return the names of parts and of those that make what they load, in the order in which they run."""
    before = {BY_NAME[name].after for name in names}
    return [part.name for part in PARTS if part.name in before or part.name in names]
