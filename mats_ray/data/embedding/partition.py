"""Writing one partition: rows in training order, each distinct text encoded once, one part file per source.

Shapes: N rows, M distinct texts, C CLAP dim.
"""

import hashlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mats_ray.data.embedded import part_name
from mats_ray.data.embedding.embed_plan import EmbedPlan, FinishedPartition
from mats_ray.data.embedding.shuffle import gather
from mats_ray.data.mixture import source_folder
from mats_ray.data.triplets import (
    COLUMNS,
    CONTENT_METADATA_KEY,
    embedded_schema,
    embedding_array,
    row_key,
    shuffled_schema,
)
from mats_ray.errors import DataError
from mats_ray.models.clap.encoder import CLAP
from mats_ray.storage import open_output

TEXTS_PER_BLOCK = 8192
"""Number of texts whose embeddings are held as float32."""


def write_partition(
    plan: EmbedPlan, partition: int, clap: CLAP | None, *, batch_size: int
) -> FinishedPartition:
    """Gather, embed and write one partition; the same plan gives the same files.

    Args:
        plan: Plan whose rows are all scattered.
        partition: Index of the partition.
        clap: Not needed where embeddings are not stored.
        batch_size: Number of texts per forward pass.

    Raises:
        DataError: The CLAP is not the plan's.
    """
    table = gather(plan, partition)
    keys = np.fromiter((row_key(one) for one in table.column("id").to_pylist()), np.int64, len(table))
    table = table.take(pa.array(np.argsort(keys, kind="stable"))).combine_chunks()
    encoded = table.column("text").combine_chunks().dictionary_encode()
    texts, row_of_text = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
    embeddings_MC = None
    if plan.stored:
        assert clap is not None, "stored embeddings need a CLAP"
        if clap.identity != plan.identity:
            raise DataError(f"the CLAP became {clap.identity}, the job started with {plan.identity}")
        embeddings_MC = embed_texts(clap, texts, batch_size=batch_size)
    files = tuple(
        _write(plan, name, table.take(pa.array(rows)), row_of_text[rows], embeddings_MC)
        for name, rows in _layout(plan, partition, table)
    )
    return FinishedPartition(partition, len(table), len(texts), files)


def embed_texts(clap: CLAP, texts: list[str], *, batch_size: int) -> np.ndarray:
    """Embed texts, those of like length together: (M, C) float16."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    embeddings_MC = np.empty((len(texts), clap.dim), dtype=np.float16)
    for start in range(0, len(order), TEXTS_PER_BLOCK):
        chosen = order[start : start + TEXTS_PER_BLOCK]
        encoded = clap.encode_text([texts[index] for index in chosen], batch_size=batch_size)
        embeddings_MC[chosen] = encoded.cpu().numpy()
    return embeddings_MC


def _layout(plan: EmbedPlan, partition: int, table: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
    """Yield file names and the rows that go there."""
    if not len(table):
        return
    if not plan.by_source:
        yield part_name(partition), np.arange(len(table))
        return
    sources = np.array(table.column("source").to_pylist(), dtype=object)
    for source in sorted(set(sources)):
        yield f"{source_folder(source)}/{part_name(partition)}", np.flatnonzero(sources == source)


def _write(
    plan: EmbedPlan, name: str, rows: pa.Table, text_of_row: np.ndarray, embeddings_MC: np.ndarray | None
) -> str:
    """Write row group by row group; a kill leaves no half file behind."""
    schema = shuffled_schema(plan.identity) if embeddings_MC is None else embedded_schema(plan.identity)
    bounds, content = [*range(0, len(rows), plan.chunk_rows), len(rows)], hashlib.sha256()
    with open_output(f"{plan.out}/{name}") as sink, pq.ParquetWriter(sink, schema) as writer:
        for start, stop in pairwise(bounds):
            columns = [rows.column(column).slice(start, stop - start) for column in COLUMNS]
            if embeddings_MC is not None:
                columns.append(embedding_array(embeddings_MC[text_of_row[start:stop]]))
            group = pa.Table.from_arrays(columns, schema=schema).combine_chunks()
            for batch in group.to_batches():
                content.update(batch.serialize())
            writer.write_table(group, row_group_size=plan.chunk_rows)
        writer.add_key_value_metadata({CONTENT_METADATA_KEY: content.hexdigest()})
    return name
