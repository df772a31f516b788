"""Embedded triplets in Parquet: their footers, and reading them row group by row group.

Shapes: N rows, C CLAP dim.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mats_ray.data.order import RowGroup
from mats_ray.data.triplets import (
    EMBEDDING,
    SOURCE,
    SPLIT,
    check_columns,
    check_identity,
    embedding_matrix,
    identity_of,
    row_key,
)
from mats_ray.errors import DataError, abbreviated
from mats_ray.storage import open_input, parquet_files, reading_parquet
from mats_ray.types import CLAPIdentity

_Value = TypeVar("_Value")
_READERS = 8


def part_name(partition: int) -> str:
    """Name the file of one partition."""
    return f"part-{partition:05d}.parquet"


@dataclass(frozen=True, slots=True)
class EmbeddedTriplets:
    """A data set by its footers, and by its splits where some are left out."""

    groups: tuple[RowGroup, ...]
    identity: CLAPIdentity
    stored: bool = True
    """Whether the embeddings are in the files; otherwise CLAP runs while training."""
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    """Number of rows of splits that are not used, by split."""
    fingerprint: str = ""
    """16 hex digits over names and footers of all files; their folder, and the name of a single file, do
    not matter."""
    sources: Mapping[str, int] = field(default_factory=dict[str, int])
    """Number of rows used by source, where they were counted."""

    @property
    def num_rows(self) -> int:
        """Number of rows per epoch."""
        return sum(group.num_rows for group in self.groups)


def inspect(
    path: str, *, expected: CLAPIdentity | None = None, splits: Sequence[str] | None = None
) -> EmbeddedTriplets:
    """Read the footers of all files of a data set.

    Args:
        path: File, folder or s3:// prefix.
        expected: Refuse embeddings of another CLAP.
        splits: Leave rows of others out; those that name no split stay. All of them by default.

    Raises:
        DataError: No files, a file cut off, columns missing, or embeddings of different CLAPs.
    """
    files = parquet_files(path)
    groups: list[RowGroup] = []
    identity, digest = expected, hashlib.sha256()
    stored, left_out = set[bool](), Counter[str]()
    for name, file in ((one.name if len(files) > 1 else "", one.path) for one in files):
        metadata, schema = _footer(file)
        digest.update(f"{name} {_footer_hash(metadata)}\n".encode())
        check_columns(schema.names, where=file)
        found = identity_of(schema, where=file)
        identity = identity or found
        check_identity(found, identity, where=file)
        stored.add(EMBEDDING in schema.names)
        for i in range(metadata.num_row_groups):
            group = RowGroup(file, i, metadata.row_group(i).num_rows)
            if splits is not None:
                group = _select_splits(group, metadata, tuple(splits), left_out)
            groups += [group] * (group.num_rows > 0 or not group.splits)
    assert identity is not None
    if len(stored) > 1:
        raise DataError(f"some files at {path} hold embeddings and some do not; run `mats embed` again")
    return EmbeddedTriplets(
        tuple(groups), identity, stored.pop(), left_out, fingerprint=digest.hexdigest()[:16]
    )


def _select_splits(
    group: RowGroup,
    metadata: pq.FileMetaData,
    splits: tuple[str, ...],
    left_out: Counter[str],
) -> RowGroup:
    """Count a row group's rows of some splits; the column is read only where the footer does not suffice."""
    place = metadata.schema.names.index(SPLIT)
    statistics = metadata.row_group(group.index).column(place).statistics
    if (
        statistics is not None
        and statistics.has_min_max
        and statistics.min == statistics.max
        and statistics.null_count == 0
    ):
        found = Counter({str(statistics.min): group.num_rows})
    else:
        found = Counter[str](read_group(group, [SPLIT]).column(SPLIT).to_pylist())
    others = {split: count for split, count in found.items() if split not in ("", *splits)}
    left_out.update(others)
    if not others:
        return group
    return RowGroup(group.path, group.index, group.num_rows - sum(others.values()), splits)


def read_group(group: RowGroup, columns: list[str]) -> pa.Table:
    """Read some columns of one row group, the rows that are used."""
    with reading_parquet(group.path), open_input(group.path) as source:
        file = pq.ParquetFile(source, pre_buffer=True)
        if not group.splits:
            return file.read_row_group(group.index, columns=columns)
        table = file.read_row_group(group.index, columns=[*columns, SPLIT])
    return _filter_splits(table, group.splits).select(columns)


def _filter_splits(table: pa.Table, splits: Sequence[str] | None) -> pa.Table:
    if splits is None:
        return table
    used = pc.call_function("is_in", [table.column(SPLIT)], pc.SetLookupOptions(pa.array(["", *splits])))
    return table.filter(used)


def rows_by_source(path: str, *, splits: Sequence[str] | None = None) -> dict[str, int]:
    """Count the rows of a data set by source; only the columns of sources and splits are read.

    Args:
        path: Triplets, embedded or not.
        splits: Leave rows of others out; those that name no split count. All of them by default.

    Raises:
        DataError: No files, or one that is cut off.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        counts = pool.map(lambda file: _count_sources(file.path, splits), parquet_files(path))
        return dict(sorted(sum(counts, Counter[str]()).items()))


def format_rows(rows: Mapping[str, int]) -> str:
    """Write counts of rows by source on one line."""
    return f"{sum(rows.values())} rows: {', '.join(f'{count} {source}' for source, count in rows.items())}"


def _count_sources(file: str, splits: Sequence[str] | None) -> Counter[str]:
    found = Counter[str]()
    with reading_parquet(file), open_input(file) as source:
        for batch in pq.ParquetFile(source).iter_batches(columns=[SOURCE, SPLIT]):
            sources = _filter_splits(pa.Table.from_batches([batch]), splits).column(SOURCE)
            pairs = sources.value_counts().to_pylist()
            found.update({str(pair["values"]): pair["counts"] for pair in pairs})
    return found


def distinct_texts(path: str, *, num_rows: int, seed: int, splits: Sequence[str] | None = None) -> list[str]:
    """Draw distinct texts, the same as ``distinct_embeddings``, of triplets that are embedded while training.

    Raises:
        DataError: See ``inspect``; or there are no rows.
    """
    data = _inspect_not_empty(path, splits)
    kept: dict[str, None] = {}
    for group in data.groups:
        kept.update(dict.fromkeys(read_group(group, ["text"]).column("text").to_pylist()))
        if len(kept) > 2 * num_rows:
            kept = dict(_draw_by_hash(kept, num_rows, seed))
    return [text for text, _ in _draw_by_hash(kept, num_rows, seed)]


def distinct_embeddings(
    path: str, *, num_rows: int, seed: int, splits: Sequence[str] | None = None
) -> tuple[np.ndarray, CLAPIdentity]:
    """Draw embeddings of distinct texts.

    Which texts are drawn follows from a hash of (seed, text), so files and row order do not matter, and
    little more than ``2 * num_rows`` embeddings and one row group are in memory at a time.

    Returns:
        (at most num_rows, C) float32, and the CLAP that made them.

    Raises:
        DataError: See ``inspect``; or there are no rows.
    """
    data = _inspect_not_empty(path, splits)
    kept: dict[str, np.ndarray] = {}
    for group in data.groups:
        table = read_group(group, ["text", EMBEDDING])
        texts = table.column("text").to_pylist()
        matrix = embedding_matrix(table.column(EMBEDDING))
        # copies: a view would keep its whole row group in memory
        kept.update({text: matrix[row].copy() for row, text in enumerate(texts) if text not in kept})
        if len(kept) > 2 * num_rows:
            kept = dict(_draw_by_hash(kept, num_rows, seed))
    chosen = _draw_by_hash(kept, num_rows, seed)
    return np.stack([embedding for _, embedding in chosen]), data.identity


def _inspect_not_empty(path: str, splits: Sequence[str] | None) -> EmbeddedTriplets:
    data = inspect(path, splits=splits)
    check_rows(data, where=path)
    return data


def check_rows(data: EmbeddedTriplets, *, where: str) -> None:
    """Refuse data that is empty, or empty without the rows left out.

    Raises:
        DataError: Names which.
    """
    if data.num_rows == 0:
        only = f" of data.splits, only of {abbreviated(sorted(data.left_out))}" if data.left_out else ""
        raise DataError(f"the embedded triplets at {where} hold no rows{only}")


def _draw_by_hash(kept: dict[str, _Value], count: int, seed: int) -> list[tuple[str, _Value]]:
    return sorted(kept.items(), key=lambda item: row_key(f"{seed}:{item[0]}"))[:count]


def _footer_hash(metadata: pq.FileMetaData) -> str:
    sink = pa.BufferOutputStream()
    metadata.write_metadata_file(sink)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def _footer(file: str) -> tuple[pq.FileMetaData, pa.Schema]:
    with reading_parquet(file), open_input(file) as source:
        parquet = pq.ParquetFile(source)
        return parquet.metadata, parquet.schema_arrow
