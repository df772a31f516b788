"""The triplet schema: one Parquet layout for every source, with and without CLAP embeddings.

Shapes: N rows, C CLAP dim.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from mats_ray.errors import DataError
from mats_ray.types import CLAPIdentity, Triplet

COLUMNS = ("id", "text", "instruction", "answer", "task", "source", "split", "license")
"""All strings."""
SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in COLUMNS])
EMBEDDING = "embedding"
SPLIT, SOURCE = "split", "source"
CLAP_METADATA_KEY = b"mats_clap_identity"
CONTENT_METADATA_KEY = b"mats_content_sha256"
"""Key of the hash over the rows of a file: two contents differ in their footers."""


def triplet_table(triplets: Iterable[Triplet]) -> pa.Table:
    """Turn triplets into a table of ``SCHEMA``."""
    rows = [asdict(triplet) for triplet in triplets]
    return pa.Table.from_pylist([{**row, "task": str(row["task"])} for row in rows], schema=SCHEMA)


def embedded_schema(identity: CLAPIdentity) -> pa.Schema:
    """Schema of embedded triplets; the metadata names the CLAP that made the embeddings."""
    field = pa.field(EMBEDDING, pa.list_(pa.float16(), identity.dim), nullable=False)
    return shuffled_schema(identity).append(field)


def shuffled_schema(identity: CLAPIdentity) -> pa.Schema:
    """Schema of triplets in training order that are to be embedded online, by the CLAP the metadata names."""
    return SCHEMA.with_metadata({CLAP_METADATA_KEY: json.dumps(asdict(identity)).encode()})


def identity_of(schema: pa.Schema, *, where: str) -> CLAPIdentity:
    """Return which CLAP made the embeddings of a file, or shall make them while training.

    Raises:
        DataError: The file holds no embeddings of ours.
    """
    raw = (schema.metadata or {}).get(CLAP_METADATA_KEY)
    if raw is None:
        raise DataError(
            f"{where} holds no embedded triplets (columns {schema.names}); run `mats embed` first"
        )
    return CLAPIdentity(**json.loads(raw))


def check_identity(found: CLAPIdentity, expected: CLAPIdentity, *, where: str) -> None:
    """Refuse embeddings of another CLAP.

    Raises:
        DataError: They differ; both are named.
    """
    if found != expected:
        raise DataError(f"{where} was embedded with {found}, not with {expected}")


def check_columns(names: Iterable[str], *, where: str) -> None:
    """Refuse a table that lacks triplet columns.

    Raises:
        DataError: Names the missing columns.
    """
    if missing := [name for name in COLUMNS if name not in set(names)]:
        raise DataError(
            f"{where} lacks the triplet columns {', '.join(missing)}; "
            "`mats prepare` makes triplets of a table (source: table)"
        )


def check_types(schema: pa.Schema, *, where: str) -> None:
    """Refuse a table whose triplet columns are no texts.

    Raises:
        DataError: Names the first such column and its type.
    """
    for name in COLUMNS:
        kind = schema.field(name).type
        inner = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_nested(inner) or pa.types.is_binary(inner):
            raise DataError(f"{where}: the column {name!r} holds {kind}, triplets are texts")


def embedding_matrix(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return an embedding column as float32 (N, C)."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    width = array.type.list_size
    return array.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, width)


def embedding_array(matrix: np.ndarray) -> pa.FixedSizeListArray:
    """Return a float (N, C) matrix as a fixed-size-list column of float16."""
    flat = pa.array(np.ascontiguousarray(matrix, dtype=np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def row_key(row_id: str) -> int:
    """Return a stable 63-bit number for a row id: its noise and its place in the order follow from it."""
    return int.from_bytes(hashlib.blake2b(row_id.encode(), digest_size=8).digest(), "big") >> 1
