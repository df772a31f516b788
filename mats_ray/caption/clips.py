"""What travels from decoding to answering: batches of clips, errors, and files too long to send.

Light on purpose: processes that only decode import no torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mats_ray.errors import AudioError
from mats_ray.types import AudioClip

CLIPS = pa.schema(
    [
        ("path", pa.string()),
        ("etag", pa.string()),
        ("size", pa.int64()),
        ("prompts", pa.list_(pa.int32())),
        ("segment", pa.int32()),
        ("is_last", pa.bool_()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("samples", pa.large_binary()),  # float32, mono; null where there is an error, or too much of it
        ("sample_rate", pa.int32()),
        ("error_code", pa.string()),
        ("error", pa.string()),
    ]
)

BATCHES = pa.schema([("batch", pa.large_binary())])
"""A batch travels as one value (Arrow's stream format): Ray Data joins and splits rows by number as it likes,
and 32 one-hour clips must not meet because 32 one-second clips should."""


@dataclass(frozen=True, slots=True)
class LongFile:
    """A file that is to be heard as one clip and is too long to be held as one."""

    path: str
    size: int
    etag: str = ""
    """As listed; not compared where it is empty."""


Item = AudioClip | AudioError | LongFile


def packed(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Pack rows of ``CLIPS`` to a table of one batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, CLIPS) as writer:
        writer.write_table(pa.Table.from_pylist(list(rows), schema=CLIPS))
    batch = sink.getvalue()
    offsets = pa.py_buffer(np.array([0, len(batch)], np.int64))
    return pa.table([pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, batch])], BATCHES)


def batches_of(table: pa.Table) -> Iterator[pa.Table]:
    """Unpack ``BATCHES`` to tables of ``CLIPS``, without copying."""
    for batch in table.column("batch"):
        with pa.ipc.open_stream(batch.as_buffer()) as reader:
            yield reader.read_all()


def clips_of(table: pa.Table) -> Sequence[Item]:
    """Read the clips of a table of ``CLIPS``, without copying their samples."""
    columns = (
        table.column(name)
        for name in ("path", "size", "etag", "samples", "sample_rate", "error_code", "error")
    )
    return [_item(*row) for row in zip(*columns, strict=True)]


def _item(path: Any, size: Any, etag: Any, samples: Any, rate: Any, code: Any, error: Any) -> Item:
    if code.is_valid:
        return AudioError(error.as_py(), code=code.as_py())
    if not samples.is_valid:
        return LongFile(path.as_py(), size.as_py(), etag.as_py())
    heard = np.frombuffer(samples.as_buffer(), np.float32)
    return AudioClip(samples=heard, sample_rate=rate.as_py(), name=path.as_py())
