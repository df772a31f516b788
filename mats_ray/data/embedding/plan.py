"""What an embedding job would do, what of it is done, and when it is all done.

Everything it needs to know lies beside the output: the work folder of a plan holds the shuffled rows and a
note per finished partition; the manifest of a finished job says what was made. A plan's fingerprint follows
from the triplet files, the CLAP and the layout, so work of another plan is never taken for this one's.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from mats_ray.config import RunConfig
from mats_ray.data.storage import UNFINISHED, locate, parquet_files
from mats_ray.data.triplets import check_columns
from mats_ray.errors import DataError
from mats_ray.types import CLAPIdentity

WORK = "_shuffle"
MANIFEST = "embedded.json"
_LAYOUT = 1
"""Changes when the same plan would be written in another way."""


@dataclass(frozen=True, slots=True)
class TripletFile:
    """One Parquet file of triplets."""

    path: str
    num_rows: int
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class EmbedPlan:
    """Inputs, layout and place of one embedding."""

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
        """Of all files."""
        return sum(file.num_rows for file in self.files)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits."""
        tree = {**asdict(self), "layout": _LAYOUT}
        tree.pop("out")
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def work(self) -> str:
        """Folder of what is needed only until the end."""
        return f"{self.out.rstrip('/')}/{WORK}/{self.fingerprint}"


def triplet_files(path: str) -> tuple[TripletFile, ...]:
    """Look at the footers of triplets.

    Raises:
        DataError: They are missing, unfinished, malformed or empty.
    """
    filesystem, paths = parquet_files(path)
    files = tuple(_triplet_file(filesystem, info) for info in filesystem.get_file_info(paths))
    if sum(file.num_rows for file in files) == 0:
        raise DataError(f"the triplets at {path} hold no rows")
    return files


def make_plan(config: RunConfig, files: tuple[TripletFile, ...], identity: CLAPIdentity) -> EmbedPlan:
    """Lay out what a configuration asks for."""
    settings = config.data.embed
    num_rows = sum(file.num_rows for file in files)
    return EmbedPlan(
        files=files,
        triplets=config.triplets_path,
        out=config.embedded_path,
        identity=identity,
        num_partitions=settings.num_partitions or math.ceil(num_rows / settings.rows_per_partition),
        chunk_rows=config.data.chunk_rows,
        by_source=config.data.mixture.by == "source",
        stored=settings.mode == "stored",
    )


def _triplet_file(filesystem: fs.FileSystem, info: fs.FileInfo) -> TripletFile:
    try:
        with filesystem.open_input_file(info.path) as source:
            parquet = pq.ParquetFile(source)
            check_columns(parquet.schema_arrow.names, where=info.path)
            return TripletFile(info.path, parquet.metadata.num_rows, info.size, info.mtime_ns or 0)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{info.path} is not a readable Parquet file (cut off?): {error}") from error


@dataclass(frozen=True, slots=True)
class PartitionDone:
    """What became of one partition."""

    partition: int
    num_rows: int
    num_texts: int
    files: tuple[str, ...]
    """Below the output folder."""


class EmbedLedger:
    """What of a plan is done; reads and writes only notes."""

    def __init__(self, plan: EmbedPlan) -> None:
        self.plan = plan
        self._files, self._out = locate(plan.out)
        _, self._work = locate(plan.work)

    def finished(self) -> list[PartitionDone] | None:
        """Return every partition if the plan was carried out, its files are there, and no others are."""
        tree = self._read(f"{self._out}/{MANIFEST}")
        if tree is None or tree.get("fingerprint") != self.plan.fingerprint:
            return None
        done = [_partition_done(one) for one in tree["partitions"]]
        paths = [f"{self._out}/{name}" for one in done for name in one.files]
        found = self._files.get_file_info(fs.FileSelector(self._out, recursive=True))
        there = sorted(info.path for info in found if _is_part(info))
        return done if there == sorted(paths) and not self._exists(f"{self._out}/{UNFINISHED}") else None

    def begin(self) -> None:
        """Mark the output unfinished, and clear away work of other plans.

        Raises:
            DataError: The folder cannot be written.
        """
        try:
            self._files.create_dir(self._work, recursive=True)
            self.write_bytes(f"{self._out}/{UNFINISHED}", b"mats embed\n")
        except OSError as error:
            raise DataError(f"{self.plan.out} cannot be written: {error}") from error
        for found in self._list(f"{self._out}/{WORK}"):
            if found.type == fs.FileType.Directory and found.base_name != self.plan.fingerprint:
                self._files.delete_dir(found.path)

    def scattered(self) -> set[int]:
        """Which files' rows are shuffled."""
        names = [found.base_name for found in self._list(self._work)]
        return {int(name[8:-6]) for name in names if name.startswith("scatter-") and name.endswith(".arrow")}

    def done(self) -> list[PartitionDone]:
        """Which partitions are finished."""
        names = sorted(found.base_name for found in self._list(self._work))
        notes = (self._read(f"{self._work}/{name}") for name in names if name.startswith("done-"))
        return [_partition_done(note) for note in notes if note is not None]

    def enter(self, done: PartitionDone) -> None:
        """Note a partition, after its files are in place."""
        self.write_bytes(f"{self._work}/done-{done.partition:05d}.json", json.dumps(asdict(done)).encode())

    def end(self, done: list[PartitionDone]) -> None:
        """Leave the manifest, remove files of other plans and the work folder, take the mark away."""
        keep = {f"{self._out}/{name}" for one in done for name in one.files}
        for found in self._files.get_file_info(fs.FileSelector(self._out, recursive=True)):
            if _is_part(found) and found.path not in keep:
                self._files.delete_file(found.path)
        tree = {"fingerprint": self.plan.fingerprint, "partitions": [asdict(one) for one in done]}
        self.write_bytes(f"{self._out}/{MANIFEST}", json.dumps(tree).encode())
        self._files.delete_dir(f"{self._out}/{WORK}")
        self._files.delete_file(f"{self._out}/{UNFINISHED}")

    def write_bytes(self, path: str, content: bytes) -> None:
        """Write a small file whole or not at all."""
        with self._files.open_output_stream(f"{path}.pending") as sink:
            sink.write(content)
        self._files.move(f"{path}.pending", path)

    def _exists(self, path: str) -> bool:
        return self._files.get_file_info(path).type == fs.FileType.File

    def _list(self, folder: str) -> list[fs.FileInfo]:
        return self._files.get_file_info(fs.FileSelector(folder, allow_not_found=True))

    def _read(self, path: str) -> dict[str, Any] | None:
        if not self._exists(path) or path.endswith(".pending"):
            return None
        with self._files.open_input_stream(path) as stream:
            return json.loads(stream.read())


def _is_part(found: fs.FileInfo) -> bool:
    name = found.base_name
    return found.type == fs.FileType.File and name.startswith("part-") and name.endswith(".parquet")


def _partition_done(tree: dict[str, Any]) -> PartitionDone:
    return PartitionDone(**{**tree, "files": tuple(tree["files"])})
