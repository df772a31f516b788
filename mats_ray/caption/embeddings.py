"""Audio embeddings of a batch job, kept: answers of many models then cost one pass over the audio.

    decoded clips -> [EncodeStage] -> part files -> [AnswerStage of each model in turn]

One row per file, from all of its audio. Shapes: C CLAP dim.
"""

# pyarrow.compute makes its functions when it is imported
# pyright: reportAttributeAccessIssue=false

import json
import threading
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mats_ray.caption.decode import unpack
from mats_ray.caption.encode import AddWindows, ClipEncoder, EncodedClip
from mats_ray.caption.ledger import RETRIED
from mats_ray.caption.output import PartStore
from mats_ray.caption.part_writer import PartWriter
from mats_ray.caption.pooling import WindowPool
from mats_ray.caption.rows import RowError, Source
from mats_ray.data.audio_files import AudioObject
from mats_ray.data.audio_listing import audio_objects
from mats_ray.errors import ConfigError, DataError
from mats_ray.models.startup import without_garbage_collection
from mats_ray.storage import clear_pending, exists, lock_folder, make_folder, read_bytes, write_bytes

SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("end_s", pa.float64()),  # length; null where it could not be decoded
        pa.field("error_code", pa.string()),
        pa.field("error", pa.string()),
        pa.field("embedding", pa.list_(pa.float32())),  # (C,); null where there is an error
    ]
)
PART_ROWS, ROWS_PER_GROUP = 8_192, 512
"""Number of rows of a part, and of those that are read together: a row is some kilobytes."""
_SPACE = "_space.json"


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """Arguments of an encode stage that is made in another process."""

    model: str
    num_threads: int
    device: str


class EncodeStage:
    """Callable for Ray Data, one per actor: a table of ``decode.BATCH_SCHEMA`` to a table of ``SCHEMA``.

    Args:
        settings: Model directory, whose CLAP is used.
        add_windows: Adds windows to the pool that all actors share; by default to one of this actor alone.
    """

    @without_garbage_collection
    def __init__(self, settings: EncodeSettings, add_windows: AddWindows | None = None) -> None:
        import torch

        from mats_ray.infer.encoder import AudioEncoder

        torch.set_num_threads(settings.num_threads)
        encoder = AudioEncoder.from_pretrained(settings.model, device=settings.device)
        self._encoder = ClipEncoder(encoder=encoder, add_windows=add_windows or WindowPool().add)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Encode every clip."""
        clips = (clip for batch in unpack(table) for clip in self._encoder.encode(batch))
        return pa.Table.from_pylist([_row(clip) for clip in clips], schema=SCHEMA)


class EmbeddingStore:
    """Embeddings of one CLAP in a folder, local or remote.

    Args:
        folder: Created if it is absent.
        space: Name of their space (``ModelInfo.space``).
        create: Make the folder and write there; without, nothing is changed.

    Raises:
        ConfigError: The folder holds embeddings of another space.
        DataError: It cannot be used.
    """

    def __init__(self, folder: str, space: str, *, create: bool = True) -> None:
        self.folder, self._lock = folder, threading.Lock()
        self._writer: PartWriter | None = None
        self._in_flight: Collection[str] = ()
        self._check: Callable[[], None] = lambda: None
        self.parts = self._open()
        if create:
            make_folder(folder)
        path = f"{folder.rstrip('/')}/{_SPACE}"
        if not exists(path):
            if create:
                write_bytes(path, json.dumps({"space": space}).encode())
        elif (found := json.loads(read_bytes(path)).get("space")) != space:
            raise ConfigError(f"{folder} holds embeddings of {found}, not of {space}; give another folder")

    @contextmanager
    def writing(self, in_flight: Collection[str] = ()) -> Iterator[None]:
        """Hold the folder for ``add``: one job writes it at a time.

        Args:
            in_flight: Paths that are being embedded, which are not ``missing``; the caller adds them, and
                removes each only after its row is added.

        Raises:
            DataError: Another job holds it, or it cannot be written.
        """
        with lock_folder(self.folder, by="mats caption") as lock:
            clear_pending(self.folder)
            self.parts = self._open()  # another job may have written until now
            with PartWriter(self.parts, part_rows=PART_ROWS) as writer:
                self._writer, self._check, self._in_flight = writer, lock.check, in_flight
                try:
                    yield
                finally:
                    self._writer, self._in_flight = None, ()

    def add(self, rows: pa.Table) -> None:
        """Add rows of ``SCHEMA``, inside ``writing``."""
        assert self._writer is not None
        self._check()
        with self._lock:
            self._writer.add(rows)

    def missing(self, files: pa.Table, *, retried: Set[str] = RETRIED) -> list[AudioObject]:
        """Return the files, each once, without an embedding of their present content or with a passing error.

        Args:
            files: ``s3_pages.SCHEMA``.
            retried: Codes of errors.
        """
        with self._lock:
            in_flight = frozenset(self._in_flight)  # with the lock: no row is added between both looks
            found = self._find(files["path"].combine_chunks(), ["path", "etag", "error_code"])
        rows = (row for table in found for row in table.to_pylist())
        done = {(row["path"], row["etag"]) for row in rows if row["error_code"] not in retried}
        by_path = {one.path: one for one in audio_objects(files) if one.path not in in_flight}
        return [one for one in by_path.values() if (one.path, one.etag) not in done]

    def join(self, files: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Join files with their embeddings.

        Args:
            files: ``decode.FILE_SCHEMA``.

        Returns:
            Rows of ``SCHEMA`` with the column ``prompts``, in the order of the files, and the files that have
            no embedding of their present content.
        """
        table, missing = self._join(files)
        if len(missing):
            # another job may have moved rows to another row group than they were in when the index was read
            self.parts = self._open()
            table, missing = self._join(files)
        return table, missing

    def embeddings(self, paths: Collection[str]) -> dict[str, np.ndarray]:
        """Return the embeddings, (C,) float32, of the files that have one, by path."""
        found = self._find(pa.array(list(paths), pa.string()), ["path", "embedding"])
        pairs = (pair for table in found for pair in zip(*table.columns, strict=True))
        return {path.as_py(): _vector(value) for path, value in pairs if value.is_valid}

    def _open(self) -> PartStore:
        return PartStore(self.folder, schema=SCHEMA, rows_per_group=ROWS_PER_GROUP, create=False)

    def _find(self, paths: pa.Array, columns: Sequence[str]) -> list[pa.Table]:
        """Return the rows of some files, also of those that wait to be written."""
        if self._writer:
            return [one.table for one in self._writer.find(paths, columns)]
        try:
            return [one.table for one in self.parts.find(paths, columns)]
        except (IndexError, DataError):
            # another job replaced a part, which has other row groups than the index says: read both anew
            self.parts = self._open()
            return [one.table for one in self.parts.find(paths, columns)]

    def _join(self, files: pa.Table) -> tuple[pa.Table, pa.Table]:
        found = self._find(files["path"].combine_chunks(), SCHEMA.names)
        table, places = pa.concat_tables([SCHEMA.empty_table(), *found]), dict[tuple[str, str], int]()
        for place, row in enumerate(table.select(["path", "etag", "error_code"]).to_pylist()):
            key = row["path"], row["etag"]
            # parts of two runs come in no order: an embedding replaces an error that was retried
            if key not in places or row["error_code"] is None:
                places[key] = place
        keys = zip(files["path"].to_pylist(), files["etag"].to_pylist(), strict=True)
        place_F = pa.array([places.get(key) for key in keys], pa.int64())
        has_one_F = place_F.is_valid()
        rows = table.take(place_F.drop_null()).append_column("prompts", files["prompts"].filter(has_one_F))
        return rows, files.filter(pc.invert(has_one_F))


def encoded_clips(table: pa.Table) -> Iterator[EncodedClip]:
    """Yield the clips of a table of ``EmbeddingStore.join``."""
    rows = table.drop_columns(["embedding"]).to_pylist()
    for row, embedding in zip(rows, table["embedding"], strict=True):
        code, end_s = row["error_code"], row["end_s"]
        yield EncodedClip(
            source=Source(
                path=row["path"], etag=row["etag"], start_s=None if end_s is None else 0.0, end_s=end_s
            ),
            prompts=row["prompts"],
            result=RowError(code, row["error"]) if code else _vector(embedding),
        )


def _vector(value: pa.ListScalar) -> np.ndarray:
    return value.values.to_numpy(zero_copy_only=False).astype(np.float32)


def _row(clip: EncodedClip) -> dict[str, Any]:
    base = {"path": clip.source.path, "etag": clip.source.etag, "end_s": clip.source.end_s}
    if isinstance(clip.result, RowError):
        return base | {"error_code": clip.result.code, "error": clip.result.message}
    return base | {"embedding": clip.result}
