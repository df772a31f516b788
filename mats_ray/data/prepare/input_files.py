"""The files a preparation reads: the configured paths, resolved to one ``InputFile`` each."""

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from mats_ray.config.data import TABLE, PrepareConfig, SourceConfig
from mats_ray.data.annotations.reader import AnnotationFile, EnoughReadError
from mats_ray.data.sources.registry import SOURCES, Source
from mats_ray.data.sources.table import EXTENSIONS, TableReader, is_table
from mats_ray.errors import ConfigError, DataError
from mats_ray.storage import StoredFile, list_files, name_of, stat
from mats_ray.tasks import Task

COMPANION_PATTERNS = {
    "blacklist": r"(.*/)?(blacklist/.*|blacklist_exclude_.*)\.json",
    "names": r"(.*/)?(class_labels_indices\.csv|mid_to_display_name\.tsv|ontology\.json)",
    "metadata": r"(.*/)?clotho_metadata_\w+\.csv",
}
"""Companions that are found below the folder of their source, by published name."""
_START_BYTES = 4 << 20
FILE_PATTERN = re.compile(r"[a-z0-9_]+-[0-9a-f]{8}-\d{5}\.parquet")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One annotation file, or one folder of audio whose names are the annotation: one task each."""

    source: Source
    path: str
    split: str
    companions: dict[str, tuple[str, ...]]
    splits: tuple[str, ...]
    """Splits to train on; rows of others are dropped."""
    copies: int
    num_bytes: int
    """0 where names of audio files are the annotation."""

    @property
    def stem(self) -> str:
        """First part of the names of the files made of it: the same each time."""
        return f"{self.source.name}-{hashlib.sha256(f'{self.path}:{self.split}'.encode()).hexdigest()[:8]}"

    def open(self) -> AnnotationFile:
        """Return the file as the input of its source's reader."""
        return AnnotationFile(self.path, self.split, self.companions)

    def check_start(self) -> None:
        """Read the first record, so that a wrong header or a missing companion is found before Ray starts.

        Raises:
            DataError: The file is not what its source publishes, or a companion is missing.
        """
        start = AnnotationFile(self.path, self.split, self.companions, max_bytes=_START_BYTES)
        with suppress(EnoughReadError):  # its reader collects records before it yields the first one
            next(self.source.read(start), None)


def find_input_files(config: PrepareConfig) -> list[InputFile]:
    """Find every file to read, in the order of the configuration.

    Raises:
        ConfigError: No sources, an unknown source, or a file whose split is not known.
        DataError: A path with nothing of its source in it.
    """
    if not config.sources:
        raise ConfigError("data.prepare.sources names nothing to read (docs/data.md shows how)")
    inputs = [input_file for entry in config.sources for input_file in _input_files(entry)]
    stems = [input_file.stem for input_file in inputs]
    if twice := [input_file for input_file in inputs if stems.count(input_file.stem) > 1]:
        raise ConfigError(f"data.prepare.sources names {twice[0].path} twice for {twice[0].source.name}")
    _check_table_names(config)
    return inputs


def _check_table_names(config: PrepareConfig) -> None:
    """Refuse two tables of one name: their rows would have the same ids."""
    names = [_table_name(entry) for entry in config.sources if entry.source == TABLE]
    for name in names:
        if name in SOURCES or names.count(name) > 1:
            other = "a published source" if name in SOURCES else "two tables"
            raise ConfigError(
                f"data.prepare.sources: {name} is the name of {other}; give the table a name: of its own"
            )


def _table_name(entry: SourceConfig) -> str:
    stem = name_of(entry.path.rstrip("/")).split(".")[0]
    return entry.name or re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_") or TABLE


def _table_source(entry: SourceConfig) -> Source:
    return Source(
        name=_table_name(entry),
        read=TableReader(entry.columns, entry.defaults),
        task=entry.defaults.task or Task.CAPTION,
        license=entry.defaults.license,
    )


def _tables(folder: str, files: Sequence[StoredFile]) -> list[StoredFile]:
    """Return the tables directly in a folder."""
    found = [one for one in files if "/" not in one.name and is_table(one.name)]
    if not found:
        raise DataError(f"{folder} holds no table: no name in it ends in {', '.join(EXTENSIONS)}")
    return found


def _input_files(entry: SourceConfig) -> list[InputFile]:
    source = _table_source(entry) if entry.source == TABLE else SOURCES.get(entry.source)
    if source is None:
        raise ConfigError(
            f"no source is called {entry.source!r}; there are {', '.join(sorted([*SOURCES, TABLE]))}"
        )
    if (file := stat(entry.path)) is not None:
        return [_input_file(entry, source, entry.path, file.name, file.size, entry.companions)]
    files = sorted(list_files(entry.path), key=lambda one: one.path)
    if not files:
        raise DataError(f"nothing at {entry.path}")
    if not source.files and entry.source != TABLE:  # the names are the data
        return [_input_file(entry, source, entry.path, "", 0, entry.companions)]
    if entry.source == TABLE:
        return [
            _input_file(entry, source, one.path, one.name, one.size, {}) for one in _tables(entry.path, files)
        ]
    base = entry.path.rstrip("/")
    below = {f"{base}/{one.name}": one for one in files}
    companions = {**_companions_among(list(below)), **entry.companions}
    published = {path: one for path, one in below.items() if source.split_of(name_of(path))}
    _check_found(entry, source, [name_of(path) for path in published])
    return [
        _input_file(entry, source, path, name_of(path), one.size, companions)
        for path, one in published.items()
    ]


def _check_found(entry: SourceConfig, source: Source, names: list[str]) -> None:
    if not names:
        wanted = ", ".join(pattern.replace("\\", "") for pattern, _ in source.files)
        raise DataError(
            f"{entry.path} holds no file of {source.name} (called {wanted}); name the file itself"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{entry.path} holds several files called {twice[0]}; name the one meant")


def _input_file(
    entry: SourceConfig,
    source: Source,
    path: str,
    name: str,
    num_bytes: int,
    companions: dict[str, tuple[str, ...]],
) -> InputFile:
    published = "train" if not source.files else source.split_of(name)
    split = entry.split or published
    if split is None:
        raise ConfigError(
            f"{path}: the name does not tell a split of {source.name}; add split: train|val|test"
        )
    splits = entry.splits if entry.splits is not None else source.splits
    return InputFile(source, path, split, companions, splits, entry.copies or source.copies, num_bytes)


def _companions_among(paths: list[str]) -> dict[str, tuple[str, ...]]:
    found = {
        role: tuple(p for p in paths if re.fullmatch(pattern, p))
        for role, pattern in COMPANION_PATTERNS.items()
    }
    return {role: some for role, some in found.items() if some}
