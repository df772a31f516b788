"""A shuffle on storage: rows of one text go to one partition, and no process holds more than a partition.

Scatter: each input file becomes one Arrow file; every chunk of its rows becomes one record batch per
partition. Gather: a partition reads its batch of every chunk. Both can be repeated at any time with the same
result.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mats_ray.data.embedding.embed_plan import EmbedPlan
from mats_ray.data.triplets import COLUMNS, SCHEMA, row_key
from mats_ray.errors import DataError
from mats_ray.storage import open_input, open_output, reading_parquet

CHUNK_ROWS = 50_000
"""Number of rows of an input file held at a time."""
_OPTIONS: Any = pa.ipc.IpcWriteOptions(compression="zstd")
_READERS = 8


def scatter_path(plan: EmbedPlan, index: int) -> str:
    """Return the path of one input file's scattered rows."""
    return f"{plan.work}/scatter-{index:05d}.arrow"


def scatter(plan: EmbedPlan, index: int) -> int:
    """Sort the rows of one input file into partitions and return their number."""
    source, rows = plan.files[index].path, 0
    with (
        open_output(scatter_path(plan, index)) as sink,
        pa.ipc.new_file(sink, SCHEMA, options=_OPTIONS) as writer,
    ):
        for batch in _batches(source):
            table = _texts(batch, f"{source}, rows {rows + 1} to {rows + len(batch)}")
            rows += len(batch)
            for partition in _partitioned(table, plan.num_partitions):
                writer.write_batch(partition)
    return rows


def _batches(source: str) -> Iterator[pa.RecordBatch]:
    with reading_parquet(source), open_input(source) as stream:
        yield from pq.ParquetFile(stream).iter_batches(CHUNK_ROWS, columns=list(COLUMNS))


def _texts(batch: pa.RecordBatch, where: str) -> pa.Table:
    """Return a batch as a table of ``SCHEMA``.

    Raises:
        DataError: A row lacks a value, has an empty text or answer, or one that is not UTF-8.
    """
    if empty := [name for name in COLUMNS if batch.column(name).null_count]:
        raise DataError(f"{where}: there are rows without {', '.join(empty)}")
    try:
        table = pa.Table.from_batches([batch]).select(COLUMNS).cast(SCHEMA)
    except pa.ArrowException as error:
        raise DataError(f"{where}: {str(error).splitlines()[0]}") from error
    for name in ("text", "answer"):
        lengths = pc.call_function("binary_length", [table.column(name)])
        if len(table) and pc.call_function("min", [lengths]).as_py() == 0:
            raise DataError(f"{where}: there are rows with an empty {name}")
    return table


def _partitioned(table: pa.Table, num_partitions: int) -> list[pa.RecordBatch]:
    """Split rows by a hash of their text, each partition in the order the rows came."""
    texts = table.column("text").to_pylist()
    partitions = np.fromiter((row_key(text) % num_partitions for text in texts), np.int64, len(texts))
    order = np.argsort(partitions, kind="stable")
    ends = np.searchsorted(partitions[order], np.arange(num_partitions), side="right")
    sorted_rows = table.take(pa.array(order)).combine_chunks()
    whole = sorted_rows.to_batches()[0] if len(sorted_rows) else pa.RecordBatch.from_pylist([], schema=SCHEMA)
    starts = np.concatenate([[0], ends[:-1]])
    return [whole.slice(int(start), int(end - start)) for start, end in zip(starts, ends, strict=True)]


def gather(plan: EmbedPlan, partition: int) -> pa.Table:
    """Return all rows of a partition, file by file."""
    paths = [scatter_path(plan, index) for index in range(len(plan.files))]
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(lambda path: _batches_of(path, partition, plan.num_partitions), paths))
    return pa.Table.from_batches([batch for batches in found for batch in batches], schema=SCHEMA)


def _batches_of(path: str, partition: int, num_partitions: int) -> list[pa.RecordBatch]:
    with open_input(path) as stream:
        reader = pa.ipc.open_file(stream)
        places = range(partition, reader.num_record_batches, num_partitions)
        return [reader.get_batch(place) for place in places]
