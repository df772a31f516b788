"""First stage of a batch job: listed files to decoded clips. A file that fails becomes a row and travels on.

Light on purpose: processes that only decode import no torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from mats_ray.data.audio import MAX_BYTES, decode_audio, read_audio
from mats_ray.data.objects import read_bytes
from mats_ray.errors import AudioError
from mats_ray.types import AudioClip

LISTED = pa.schema(
    [("path", pa.string()), ("etag", pa.string()), ("size", pa.int64()), ("prompts", pa.list_(pa.int32()))]
)
"""``prompts``: indices of the prompts this file still owes an answer to."""

CLIPS = pa.schema(
    [
        ("path", pa.string()),
        ("etag", pa.string()),
        ("prompts", pa.list_(pa.int32())),
        ("samples", pa.large_binary()),  # float32, mono; null where there is an error
        ("sample_rate", pa.int32()),
        ("error_code", pa.string()),
        ("error", pa.string()),
    ]
)

BATCH_BYTES = 64 * 2**20
"""A batch ends when its decoded samples reach this size: memory holds that and one more file."""

BATCHES = pa.schema([("batch", pa.large_binary())])
"""A batch travels as one value (Arrow's stream format): Ray Data joins and splits rows by number as it likes,
and 32 one-hour clips must not meet because 32 one-second clips should."""


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Callable for Ray Data: a table of ``LISTED`` rows to tables of ``BATCHES``.

    Attributes:
        files: Of remote audio, with all it takes to reach it; None for local paths.
        max_seconds: Longer audio becomes an error row.
        batch_size: Clips per batch at most.
    """

    files: AbstractFileSystem | None
    max_seconds: float
    batch_size: int

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Decode every file, in order."""
        rows: list[dict[str, Any]] = []
        num_bytes = 0
        for listed in table.to_pylist():
            rows.append(self._row(listed))
            num_bytes += len(rows[-1]["samples"] or b"")
            if len(rows) == self.batch_size or num_bytes >= BATCH_BYTES:
                yield _packed(rows)
                rows, num_bytes = [], 0
        if rows:
            yield _packed(rows)

    def _row(self, listed: dict[str, Any]) -> dict[str, Any]:
        row = dict.fromkeys(CLIPS.names) | {name: listed[name] for name in ("path", "etag", "prompts")}
        try:
            clip = self._decode(listed["path"], listed["size"])
        except AudioError as error:
            return row | {"error_code": error.code, "error": str(error)}
        return row | {"samples": memoryview(clip.samples).cast("B"), "sample_rate": clip.sample_rate}

    def _decode(self, path: str, size: int) -> AudioClip:
        if self.files is None:
            return read_audio(path, max_seconds=self.max_seconds)
        if size > MAX_BYTES:  # as listed: not even fetched
            raise AudioError(f"{path} has {size} bytes, the limit is {MAX_BYTES}", code="too_large")
        return decode_audio(_fetch(self.files, path), name=path, max_seconds=self.max_seconds)


def batches_of(table: pa.Table) -> Iterator[pa.Table]:
    """Unpack ``BATCHES`` to tables of ``CLIPS``, without copying."""
    for packed in table.column("batch"):
        with pa.ipc.open_stream(packed.as_buffer()) as reader:
            yield reader.read_all()


def _packed(rows: Sequence[dict[str, Any]]) -> pa.Table:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, CLIPS) as writer:
        writer.write_table(pa.Table.from_pylist(list(rows), schema=CLIPS))
    batch = sink.getvalue()
    offsets = pa.py_buffer(np.array([0, len(batch)], np.int64))
    return pa.table([pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, batch])], BATCHES)


def clips_of(table: pa.Table) -> Sequence[AudioClip | AudioError]:
    """Read the clips of a table of ``CLIPS``, without copying their samples."""
    columns = (table.column(name) for name in ("path", "samples", "sample_rate", "error_code", "error"))
    return [
        AudioError(error.as_py(), code=code.as_py())
        if code.is_valid
        else AudioClip(
            samples=np.frombuffer(samples.as_buffer(), np.float32),
            sample_rate=rate.as_py(),
            name=path.as_py(),
        )
        for path, samples, rate, code, error in zip(*columns, strict=True)
    ]


def _fetch(files: AbstractFileSystem, path: str) -> bytes:
    """Get a whole object; the file system retries by itself what is worth it."""
    try:
        return read_bytes(files, path)
    except FileNotFoundError:
        raise AudioError(f"{path} is gone since it was listed", code="not_found") from None
    except Exception as error:  # every kind of store has its own
        raise AudioError(
            f"{path} cannot be fetched: {type(error).__name__}: {error}", code="read_failed"
        ) from error
