"""Ray Data: embed triplets with CLAP, and stream them, noised, to training workers.

Shapes: N rows, C CLAP dim.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
import torch
from pyarrow import fs
from ray.data import ActorPoolStrategy, TaskPoolStrategy

from mats_ray.config import RunConfig
from mats_ray.config.infer import EmbedConfig
from mats_ray.config.model import CLAPConfig
from mats_ray.data.embedded import EmbeddedTriplets, part_name, remove_other_parts
from mats_ray.data.storage import locate, parquet_files
from mats_ray.data.stream import SpanReader, StreamPlace, plan_of
from mats_ray.data.triplets import (
    COLUMNS,
    check_columns,
    embedded_schema,
    embedding_array,
    row_key,
)
from mats_ray.errors import DataError
from mats_ray.progress import Progress

PARTITION = "partition"


@dataclass(frozen=True, slots=True)
class EmbedSummary:
    """What an embedding job did."""

    num_rows: int
    num_texts: int
    """Distinct texts: each went through CLAP once."""
    seconds: float
    path: str


def embed(config: RunConfig) -> EmbedSummary:
    """Embed every distinct text of the triplets once and write the triplets with their embeddings.

    Texts are hashed into partitions, so equal texts meet in one place; an actor pool embeds a partition's
    distinct texts in batches of like length and writes one Parquet file per partition. Rows inside a file
    are ordered by a hash of their id, so the same triplets give the same files. Files of an earlier run with
    more partitions are removed at the end.

    Raises:
        DataError: The triplets are missing, malformed or empty.
    """
    started = time.monotonic()
    filesystem, files = parquet_files(config.triplets_path)
    for file in files:
        check_columns(pq.read_schema(file, filesystem=filesystem).names, where=file)
    locate(config.embedded_path)[0].create_dir(locate(config.embedded_path)[1], recursive=True)
    parts = _parts(config, files, filesystem)
    rows = texts = 0
    written: set[str] = set()
    with Progress("embed", total=config.data.embed.num_partitions, unit="part") as progress:
        for part in parts.iter_rows():
            rows, texts = rows + int(part["num_rows"]), texts + int(part["num_texts"])
            written.add(part["file"])
            progress.advance(note=f"{rows} rows, {texts} texts")
    if rows == 0:
        raise DataError(f"the triplets at {config.triplets_path} hold no rows")
    remove_other_parts(config.embedded_path, written)
    return EmbedSummary(rows, texts, time.monotonic() - started, config.embedded_path)


def _parts(config: RunConfig, files: list[str], filesystem: fs.FileSystem) -> ray.data.Dataset:
    """The pipeline: one row per partition written."""
    settings = config.data.embed
    return (
        ray.data.read_parquet(files, filesystem=filesystem)
        .select_columns(list(COLUMNS))
        .map_batches(
            _add_partition,  # pyright: ignore[reportArgumentType]  (a table, as batch_format says)
            batch_format="pyarrow",
            fn_args=[settings.num_partitions],
        )
        .groupby(PARTITION, num_partitions=settings.num_partitions)
        .map_groups(
            _PartitionEmbedder,
            batch_format="pyarrow",
            fn_constructor_args=[config.clap, config.embedded_path, settings, config.data.chunk_rows],
            compute=ActorPoolStrategy(size=settings.concurrency),
            num_cpus=settings.cpus_per_actor,
            num_gpus=settings.gpus_per_actor or None,
        )
    )


def _add_partition(table: pa.Table, num_partitions: int) -> pa.Table:
    partitions = [row_key(text) % num_partitions for text in table.column("text").to_pylist()]
    return table.append_column(PARTITION, pa.array(partitions, pa.int32()))


class _PartitionEmbedder:
    """Actor: holds CLAP, turns one partition into one Parquet file."""

    def __init__(self, clap: CLAPConfig, out: str, settings: EmbedConfig, chunk_rows: int) -> None:
        # imported here: tasks that read rows use this module too, and need not load transformers for seconds
        from mats_ray.models.build import build_clap

        torch.set_num_threads(max(1, int(settings.cpus_per_actor)))
        self.clap = build_clap(clap).to("cuda" if settings.gpus_per_actor else "cpu")
        self.out, self.batch_size, self.chunk_rows = out, settings.batch_size, chunk_rows

    def __call__(self, table: pa.Table) -> pa.Table:
        partition = table.column(PARTITION)[0].as_py()
        keys = [row_key(row_id) for row_id in table.column("id").to_pylist()]
        table = table.take(pa.array(np.argsort(keys, kind="stable"))).select(COLUMNS)
        texts, row_of_text = np.unique(table.column("text").to_pylist(), return_inverse=True)
        embeddings_NC = self.clap.encode_text(texts.tolist(), batch_size=self.batch_size).cpu().numpy()
        columns = [*table.columns, embedding_array(embeddings_NC[row_of_text])]
        embedded = pa.Table.from_arrays(columns, schema=embedded_schema(self.clap.identity))
        file = part_name(partition)
        self._write(embedded, file)
        return pa.table({"file": [file], "num_rows": [len(table)], "num_texts": [len(texts)]})

    def _write(self, table: pa.Table, name: str) -> None:
        """Write under another name, then rename: a killed writer leaves no half file behind."""
        filesystem, folder = locate(self.out)
        pending = f"{folder}/{name}.pending"
        pq.write_table(table, pending, filesystem=filesystem, row_group_size=self.chunk_rows)
        filesystem.move(pending, f"{folder}/{name}")


def training_rows(config: RunConfig, data: EmbeddedTriplets, place: StreamPlace) -> Iterator[pa.Table]:
    """Stream one worker's noised rows in micro-batches, in the order ``data.order`` defines.

    Reading, shuffling and noise are Ray Data tasks over spans of the stream, ahead of the consumer.

    Yields:
        See ``SpanReader.read``.
    """
    plan = plan_of(config, place)
    # One task at a time keeps far ahead of a worker: some 10,000 rows/s against some 100 that it consumes.
    dataset = ray.data.from_items(plan, override_num_blocks=len(plan)).map_batches(
        _read_spans,  # pyright: ignore[reportArgumentType]  (a dict, as batch_format says)
        fn_args=[SpanReader(config, data, place)],
        batch_size=None,
        batch_format="numpy",
        num_cpus=0.25,
        compute=TaskPoolStrategy(size=1),
    )
    dataset.context.execution_options.preserve_order = True
    for batch in dataset.iter_batches(
        batch_size=config.train.micro_batch_size, batch_format="pyarrow", prefetch_batches=4
    ):
        assert isinstance(batch, pa.Table)
        yield batch


def _read_spans(batch: dict[str, np.ndarray], reader: SpanReader) -> pa.Table:
    return pa.concat_tables([reader.read((int(start), int(stop))) for start, stop in batch["item"]])
