"""The triplet schema: what is written is read again, what does not fit is refused by name."""

import numpy as np
import pyarrow as pa
import pytest

from mats_ray.data.triplets import (
    COLUMNS,
    EMBEDDING,
    SCHEMA,
    check_columns,
    check_identity,
    embedded_schema,
    embedding_array,
    embedding_matrix,
    identity_of,
    row_key,
    triplet_table,
)
from mats_ray.errors import DataError
from mats_ray.tasks import Task
from mats_ray.types import CLAPIdentity, Triplet

OURS = CLAPIdentity(family="msclap", checkpoint_hash="0123456789abcdef", dim=3)


def triplet(number):
    return Triplet(
        id=f"clotho/{number}",
        text=f"Rain falls {number} times, é.",
        instruction="Describe the following audio in a caption.",
        answer="rain falls",
        task=Task.CAPTION,
        source="clotho",
        split="train",
        license="CC BY 4.0",
    )


def test_triplets_are_rows_of_strings_in_one_schema():
    table = triplet_table([triplet(1), triplet(2)])

    assert table.schema == SCHEMA
    assert table.column("task").to_pylist() == ["caption", "caption"]
    assert table.column("text").to_pylist() == ["Rain falls 1 times, é.", "Rain falls 2 times, é."]
    assert triplet_table([]).schema == SCHEMA


def test_the_identity_of_the_clap_travels_in_the_schema():
    schema = embedded_schema(OURS)

    assert identity_of(schema, where="x.parquet") == OURS
    assert schema.field(EMBEDDING).type == pa.list_(pa.float16(), 3)


@pytest.mark.parametrize("schema", [SCHEMA, embedded_schema(OURS).remove_metadata()])
def test_the_error_of_a_file_without_embeddings_names_the_command(schema):
    with pytest.raises(DataError, match=r"^x\.parquet holds no embedded triplets .*run `mats embed` first$"):
        identity_of(schema, where="x.parquet")


@pytest.mark.parametrize("change", [{"family": "laion"}, {"checkpoint_hash": "f" * 16}, {"dim": 4}])
def test_embeddings_of_another_clap_are_refused_naming_both(change):
    other = CLAPIdentity(**{"family": "msclap", "checkpoint_hash": "0123456789abcdef", "dim": 3} | change)

    with pytest.raises(DataError) as caught:
        check_identity(other, OURS, where="x.parquet")

    assert str(caught.value) == f"x.parquet was embedded with {other}, not with {OURS}"
    check_identity(OURS, OURS, where="x.parquet")


def test_missing_columns_are_named():
    check_columns([*COLUMNS, "more"], where="x.parquet")
    with pytest.raises(
        DataError, match=r"^x\.parquet lacks the triplet columns instruction, license; `mats prepare`"
    ):
        check_columns(set(COLUMNS) - {"license", "instruction"}, where="x.parquet")


def test_embeddings_come_back_as_float32_to_half_precision():
    matrix = np.random.default_rng(0).uniform(-1, 1, (5, 7)).astype(np.float32)

    again = embedding_matrix(embedding_array(matrix))

    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, matrix.astype(np.float16).astype(np.float32))


def test_parts_of_a_column_are_read_from_their_own_rows():
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    column = pa.chunked_array([embedding_array(matrix), embedding_array(matrix + 100)])

    np.testing.assert_array_equal(embedding_matrix(column.slice(3, 2)), [[9, 10, 11], [100, 101, 102]])
    assert embedding_matrix(column.slice(0, 0)).shape == (0, 3)


def test_the_key_of_a_row_never_changes():
    """Noise and order follow from it: another number would be another run."""
    assert row_key("clotho/1") == 6288860264609502058
    keys = {row_key(f"clotho/{number}") for number in range(1000)}
    assert len(keys) == 1000
    assert all(0 <= key < 2**63 for key in keys)
