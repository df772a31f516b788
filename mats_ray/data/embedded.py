"""Embedded triplets in Parquet: which files, what is known of them, and reading row group by row group.

Shapes: N rows, C CLAP dim.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mats_ray.data.order import RowGroup
from mats_ray.data.triplets import (
    EMBEDDING,
    SPLIT,
    check_columns,
    check_identity,
    embedding_matrix,
    identity_of,
    row_key,
)
from mats_ray.errors import DataError, StorageError, abbreviated
from mats_ray.storage import open_input, parquet_files
from mats_ray.types import CLAPIdentity

_Value = TypeVar("_Value")


def part_name(partition: int) -> str:
    """Name the file of one partition."""
    return f"part-{partition:05d}.parquet"


@dataclass(frozen=True, slots=True)
class EmbeddedTriplets:
    """What is known of a data set from its footers, and from its splits where some are left out."""

    groups: tuple[RowGroup, ...]
    identity: CLAPIdentity
    stored: bool = True
    """Whether the embeddings are in the files; otherwise CLAP runs while training."""
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    """Rows of other splits than were asked for, by split."""

    @property
    def num_rows(self) -> int:
        """Rows per epoch."""
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
    groups: list[RowGroup] = []
    identity = expected
    stored, left_out = set[bool](), Counter[str]()
    for file in (one.path for one in parquet_files(path)):
        metadata, schema = _footer(file)
        check_columns(schema.names, where=file)
        found = identity_of(schema, where=file)
        identity = identity or found
        check_identity(found, identity, where=file)
        stored.add(EMBEDDING in schema.names)
        for i in range(metadata.num_row_groups):
            group = RowGroup(file, i, metadata.row_group(i).num_rows)
            if splits is not None:
                group = _of_splits(group, metadata, tuple(splits), left_out)
            groups += [group] * (group.num_rows > 0 or not group.splits)
    assert identity is not None
    if len(stored) > 1:
        raise DataError(f"some files at {path} hold embeddings and some do not; run `mats embed` again")
    return EmbeddedTriplets(tuple(groups), identity, stored.pop(), left_out)


def _of_splits(
    group: RowGroup,
    metadata: pq.FileMetaData,
    splits: tuple[str, ...],
    left_out: Counter[str],
) -> RowGroup:
    """Count what a row group has of some splits; its column is read only where the footer does not tell."""
    place = metadata.schema.names.index(SPLIT)
    told = metadata.row_group(group.index).column(place).statistics
    if told is not None and told.has_min_max and told.min == told.max and told.null_count == 0:
        found = Counter({str(told.min): group.num_rows})
    else:
        found = Counter[str](read_group(group, [SPLIT]).column(SPLIT).to_pylist())
    others = {split: count for split, count in found.items() if split not in ("", *splits)}
    left_out.update(others)
    if not others:
        return group
    return RowGroup(group.path, group.index, group.num_rows - sum(others.values()), splits)


def read_group(group: RowGroup, columns: list[str]) -> pa.Table:
    """Read some columns of one row group, the rows that are used."""
    with open_input(group.path) as source:
        file = pq.ParquetFile(source, pre_buffer=True)
        if not group.splits:
            return file.read_row_group(group.index, columns=columns)
        table = file.read_row_group(group.index, columns=[*columns, SPLIT])
    used = pc.call_function(
        "is_in", [table.column(SPLIT)], pc.SetLookupOptions(pa.array(["", *group.splits]))
    )
    return table.filter(used).select(columns)


def distinct_texts(path: str, *, num_rows: int, seed: int, splits: Sequence[str] | None = None) -> list[str]:
    """Draw distinct texts, the same as ``distinct_embeddings``, of triplets that are embedded while training.

    Raises:
        DataError: See ``inspect``; or there are no rows.
    """
    data = _with_rows(path, splits)
    kept: dict[str, None] = {}
    for group in data.groups:
        kept.update(dict.fromkeys(read_group(group, ["text"]).column("text").to_pylist()))
        if len(kept) > 2 * num_rows:
            kept = dict(_smallest(kept, num_rows, seed))
    return [text for text, _ in _smallest(kept, num_rows, seed)]


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
    data = _with_rows(path, splits)
    kept: dict[str, np.ndarray] = {}
    for group in data.groups:
        table = read_group(group, ["text", EMBEDDING])
        texts = table.column("text").to_pylist()
        matrix = embedding_matrix(table.column(EMBEDDING))
        # copies: a view would keep its whole row group in memory
        kept.update({text: matrix[row].copy() for row, text in enumerate(texts) if text not in kept})
        if len(kept) > 2 * num_rows:
            kept = dict(_smallest(kept, num_rows, seed))
    chosen = _smallest(kept, num_rows, seed)
    return np.stack([embedding for _, embedding in chosen]), data.identity


def _with_rows(path: str, splits: Sequence[str] | None) -> EmbeddedTriplets:
    data = inspect(path, splits=splits)
    check_rows(data, where=path)
    return data


def check_rows(data: EmbeddedTriplets, *, where: str) -> None:
    """Refuse data that is empty, or empty without the rows left out.

    Raises:
        DataError: Says which.
    """
    if data.num_rows == 0:
        only = f" of data.splits, only of {abbreviated(sorted(data.left_out))}" if data.left_out else ""
        raise DataError(f"the embedded triplets at {where} hold no rows{only}")


def _smallest(kept: dict[str, _Value], count: int, seed: int) -> list[tuple[str, _Value]]:
    return sorted(kept.items(), key=lambda item: row_key(f"{seed}:{item[0]}"))[:count]


def _footer(file: str) -> tuple[pq.FileMetaData, pa.Schema]:
    try:
        with open_input(file) as source:
            parquet = pq.ParquetFile(source)
            return parquet.metadata, parquet.schema_arrow
    except StorageError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} is not a readable Parquet file (cut off?): {error}") from error
