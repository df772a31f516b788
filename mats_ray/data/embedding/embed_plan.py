"""The plan of an embedding job, and the ledger of its finished partitions.

All state lies beside the output: the work folder of a plan holds the shuffled rows and a JSON file per
finished partition; the manifest of a finished job lists its partitions. A plan's fingerprint follows from the
triplet files, the CLAP and the layout, so that work of another plan is never used for this one.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mats_ray.config.data import DataConfig
from mats_ray.data.triplets import CLAP_METADATA_KEY, check_columns, check_types
from mats_ray.errors import ConfigError, DataError
from mats_ray.storage import (
    UNFINISHED,
    StoredFile,
    clear_pending,
    list_files,
    locate,
    open_input,
    parquet_files,
    read_bytes,
    reading_parquet,
    remove,
    remove_folder,
    stat,
    write_bytes,
)
from mats_ray.types import CLAPIdentity

WORK = "_shuffle"
MANIFEST = "embedded.json"
_LAYOUT = 1
"""Version of the layout: changes when the same plan would be written in another way."""


@dataclass(frozen=True, slots=True)
class TripletFile:
    """One Parquet file of triplets."""

    path: str
    num_rows: int
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class EmbedPlan:
    """Inputs, layout and output folder of one embedding."""

    files: tuple[TripletFile, ...]
    triplets: str
    out: str
    identity: CLAPIdentity
    num_partitions: int
    chunk_rows: int
    by_source: bool
    """A file, and so a row group, holds rows of one source only."""
    stored: bool
    """Embeddings are written; otherwise rows alone, in the same order."""

    @property
    def num_rows(self) -> int:
        """Number of rows of all files."""
        return sum(file.num_rows for file in self.files)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits."""
        tree = {**asdict(self), "layout": _LAYOUT}
        tree.pop("out")
        for file in tree["files"]:  # without the protocol, as ever: a finished job stays finished
            file["path"] = file["path"].partition("://")[2] or file["path"]
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def work(self) -> str:
        """Folder of files that are removed when the job has finished."""
        return f"{self.out.rstrip('/')}/{WORK}/{self.fingerprint}"


def triplet_files(path: str) -> tuple[TripletFile, ...]:
    """Read the footers of triplet files.

    Raises:
        DataError: They are missing, unfinished, malformed or empty.
    """
    files = tuple(map(_triplet_file, parquet_files(path)))
    if sum(file.num_rows for file in files) == 0:
        raise DataError(f"the triplets at {path} hold no rows")
    return files


def make_plan(
    data: DataConfig, files: tuple[TripletFile, ...], identity: CLAPIdentity, *, triplets: str, out: str
) -> EmbedPlan:
    """Plan the embedding of triplets.

    Args:
        data: Section ``data``; its paths are not used, since a run has defaults for them.
        files: What ``triplets`` holds.
        identity: CLAP to embed with.
        triplets: Folder of the triplets.
        out: Folder of the embedded triplets.

    Raises:
        ConfigError: Triplets and embedded triplets would lie in each other.
    """
    _check_separate_folders(triplets, out)
    settings = data.embed
    num_rows = sum(file.num_rows for file in files)
    return EmbedPlan(
        files=files,
        triplets=triplets,
        out=out,
        identity=identity,
        num_partitions=settings.num_partitions or math.ceil(num_rows / settings.rows_per_partition),
        chunk_rows=data.chunk_rows,
        by_source=data.mixture.by == "source",
        stored=settings.mode == "stored",
    )


def _check_separate_folders(triplets: str, embedded: str) -> None:
    """Either folder is read with all below it, and files of earlier jobs are removed from the second."""
    source, target = (locate(path)[1].rstrip("/") + "/" for path in (triplets, embedded))
    if source.startswith(target) or target.startswith(source):
        raise ConfigError(
            f"data.triplets={triplets} and data.embedded={embedded} lie in each other; name folders apart"
        )


def _triplet_file(file: StoredFile) -> TripletFile:
    with reading_parquet(file.path), open_input(file.path) as source:
        parquet = pq.ParquetFile(source)
        check_columns(parquet.schema_arrow.names, where=file.path)
        check_types(parquet.schema_arrow, where=file.path)
        return TripletFile(file.path, parquet.metadata.num_rows, file.size, file.mtime_ns)


@dataclass(frozen=True, slots=True)
class FinishedPartition:
    """One finished partition and its files."""

    partition: int
    num_rows: int
    num_texts: int
    files: tuple[str, ...]
    """Names below the output folder."""


class EmbedLedger:
    """Ledger of a plan: which input files are scattered, which partitions are finished."""

    def __init__(self, plan: EmbedPlan) -> None:
        self.plan = plan
        self._out = plan.out.rstrip("/")

    def completed(self) -> list[FinishedPartition] | None:
        """Return every partition if the plan was carried out, its files are there, and no others are."""
        tree = _read(f"{self._out}/{MANIFEST}")
        if tree is None or tree.get("fingerprint") != self.plan.fingerprint:
            return None
        done = [_finished_partition(one) for one in tree["partitions"]]
        names = sorted(name for one in done for name in one.files)
        complete = sorted(self._part_files()) == names and stat(f"{self._out}/{UNFINISHED}") is None
        return done if complete else None

    def start(self) -> None:
        """Mark the output unfinished, and remove work of other plans and of killed writers.

        Raises:
            DataError: The folder cannot be written, or holds Parquet files that no such job wrote.
        """
        if foreign := next(filter(_is_foreign, list_files(self._out)), None):
            raise DataError(
                f"{self.plan.out} holds {foreign.path}, which `mats embed` did not write; name another "
                "folder as data.embedded"
            )
        write_bytes(f"{self._out}/{UNFINISHED}", b"mats embed\n")
        clear_pending(self._out)
        others = {name.partition("/")[0] for name in _names(f"{self._out}/{WORK}")} - {self.plan.fingerprint}
        for other in others:
            remove_folder(f"{self._out}/{WORK}/{other}")

    def scattered_files(self) -> set[int]:
        """Return the indices of the input files whose rows are scattered."""
        names = _names(self.plan.work)
        return {int(name[8:-6]) for name in names if name.startswith("scatter-") and name.endswith(".arrow")}

    def finished_partitions(self) -> list[FinishedPartition]:
        """Return the partitions recorded as finished."""
        names = sorted(name for name in _names(self.plan.work) if name.startswith("done-"))
        records = (_read(f"{self.plan.work}/{name}") for name in names)
        return [_finished_partition(one) for one in records if one is not None]

    def record(self, done: FinishedPartition) -> None:
        """Record a partition, after its files are in place."""
        write_bytes(f"{self.plan.work}/done-{done.partition:05d}.json", json.dumps(asdict(done)).encode())

    def finish(self, done: list[FinishedPartition], sources: Mapping[str, int]) -> None:
        """Write the manifest, remove files of other plans and the work folder, remove the mark.

        Args:
            done: Every partition.
            sources: Rows by source, for the manifest.
        """
        keep = {name for one in done for name in one.files}
        for name in self._part_files():
            if name not in keep:
                remove(f"{self._out}/{name}")
        tree = {
            "fingerprint": self.plan.fingerprint,
            "rows_by_source": dict(sources),
            "partitions": [asdict(one) for one in done],
        }
        write_bytes(f"{self._out}/{MANIFEST}", json.dumps(tree).encode())
        remove_folder(f"{self._out}/{WORK}")
        remove(f"{self._out}/{UNFINISHED}")

    def _part_files(self) -> list[str]:
        return [name for name in _names(self._out) if _is_part_file(name)]


def _is_part_file(name: str) -> bool:
    last = name.rpartition("/")[2]
    return last.startswith("part-") and last.endswith(".parquet")


def _is_foreign(file: StoredFile) -> bool:
    if not file.path.endswith(".parquet"):
        return False
    try:
        with open_input(file.path) as source:
            return CLAP_METADATA_KEY not in (pq.read_schema(source).metadata or {})
    except pa.ArrowInvalid:
        return not _is_part_file(file.name)


def _names(folder: str) -> list[str]:
    return [one.name for one in list_files(folder)]


def _read(path: str) -> dict[str, Any] | None:
    try:
        return json.loads(read_bytes(path))
    except FileNotFoundError:
        return None


def _finished_partition(tree: dict[str, Any]) -> FinishedPartition:
    return FinishedPartition(**{**tree, "files": tuple(tree["files"])})
