"""Embedded triplets: content of the footers, refused data, texts drawn for the memory."""

import shutil
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.data.embedded import (
    distinct_embeddings,
    format_rows,
    inspect,
    read_group,
    rows_by_source,
)
from mats_ray.data.triplets import EMBEDDING, SCHEMA, embedded_schema, embedding_array, embedding_matrix
from mats_ray.errors import DataError
from mats_ray.types import CLAPIdentity
from tests.s3 import s3_server

OURS = CLAPIdentity(family="transformers", checkpoint_hash="0123456789abcdef", dim=8)
OTHER = CLAPIdentity(family="transformers", checkpoint_hash="fedcba9876543210", dim=8)


def embedding_of(texts, dim=8):
    """Embeddings that follow from the texts."""
    rows = [np.random.default_rng(list(text.encode())).standard_normal(dim) for text in texts]
    return np.array(rows, np.float32).reshape(-1, dim)


def write(path, texts, *, identity=OURS, row_group_size=4):
    ids = [f"{path.stem}/id/{row}" for row, _ in enumerate(texts)]
    special = {"id": ids, "split": ["train"] * len(texts)}
    columns = [pa.array(special.get(name, texts), pa.string()) for name in SCHEMA.names]
    table = pa.Table.from_arrays(
        [*columns, embedding_array(embedding_of(texts, identity.dim))], schema=embedded_schema(identity)
    )
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def texts_of(matrix, candidates):
    """Return the texts whose embeddings the rows are."""
    known = {
        row.tobytes(): text for row, text in zip(half(embedding_of(candidates)), candidates, strict=True)
    }
    return [known[row.tobytes()] for row in matrix]


def half(matrix):
    return matrix.astype(np.float16).astype(np.float32)


def test_footers_hold_rows_groups_and_clap(tmp_path):
    write(tmp_path / "b.parquet", ["a dog"] * 6)
    write(tmp_path / "a.parquet", ["rain"] * 3)

    data = inspect(str(tmp_path))

    assert data.identity == OURS
    assert [(g.path.rsplit("/", 1)[1], g.index, g.num_rows) for g in data.groups] == [
        ("a.parquet", 0, 3),
        ("b.parquet", 0, 4),
        ("b.parquet", 1, 2),
    ]
    assert data.num_rows == 9


def test_a_group_is_read_by_column(tmp_path):
    write(tmp_path / "a.parquet", ["a", "b", "c", "d", "e"])

    table = read_group(inspect(str(tmp_path)).groups[1], ["text", EMBEDDING])

    assert table.column_names == ["text", EMBEDDING]
    assert table.column("text").to_pylist() == ["e"]
    np.testing.assert_array_equal(embedding_matrix(table.column(EMBEDDING)), half(embedding_of(["e"])))


def test_files_of_two_claps_are_refused_naming_both(tmp_path):
    write(tmp_path / "a.parquet", ["a dog"])
    write(tmp_path / "b.parquet", ["a dog"], identity=OTHER)

    with pytest.raises(DataError) as caught:
        inspect(str(tmp_path))

    assert str(caught.value) == f"{tmp_path}/b.parquet was embedded with {OTHER}, not with {OURS}"


def test_another_clap_than_expected_is_refused_naming_both(tmp_path):
    write(tmp_path / "a.parquet", ["a dog"])

    assert inspect(str(tmp_path), expected=OURS).num_rows == 1
    with pytest.raises(DataError, match=f"0123456789abcdef .*, not with .*{OTHER.checkpoint_hash}"):
        inspect(str(tmp_path), expected=OTHER)


@pytest.mark.parametrize("keep", [0, 3, 200, -1], ids=["empty", "3 bytes", "200 bytes", "all but one byte"])
def test_a_file_that_is_cut_off_is_one_clear_line(tmp_path, keep):
    path = write(tmp_path / "a.parquet", ["a dog", "rain", "a siren"])
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(DataError) as caught:
        inspect(str(tmp_path))

    message = str(caught.value)
    assert message.startswith(f"{path} is not a readable Parquet file (cut off?): ")
    assert "\n" not in message


def test_the_error_of_triplets_without_embeddings_names_the_command(tmp_path):
    pq.write_table(pa.Table.from_pylist([], schema=SCHEMA), tmp_path / "a.parquet")

    with pytest.raises(DataError, match="run `mats embed` first"):
        inspect(str(tmp_path))


def test_missing_columns_are_named(tmp_path):
    pq.write_table(pa.table({"text": ["a dog"]}), tmp_path / "a.parquet")

    with pytest.raises(DataError, match=r"a\.parquet lacks the triplet columns id, instruction"):
        inspect(str(tmp_path))


WORDS = [f"sound number {index}" for index in range(30)]


def test_every_text_is_drawn_once_however_often_it_occurs(tmp_path):
    write(tmp_path / "a.parquet", WORDS[:20] + WORDS[:5])
    write(tmp_path / "b.parquet", WORDS[10:])

    matrix, identity = distinct_embeddings(str(tmp_path), num_rows=100, seed=0)

    assert identity == OURS
    assert sorted(texts_of(matrix, WORDS)) == sorted(WORDS)


@pytest.mark.parametrize("row_group_size", [1, 7, 100])
def test_which_texts_are_drawn_does_not_depend_on_files_groups_or_order(tmp_path, row_group_size):
    write(tmp_path / "one" / "a.parquet", WORDS)
    backwards = WORDS[::-1]
    write(tmp_path / "two" / "z.parquet", backwards[:11] + WORDS[:3], row_group_size=row_group_size)
    write(tmp_path / "two" / "a.parquet", backwards[11:], row_group_size=row_group_size)

    for num_rows in (4, 10):
        one, _ = distinct_embeddings(str(tmp_path / "one"), num_rows=num_rows, seed=3)
        two, _ = distinct_embeddings(str(tmp_path / "two"), num_rows=num_rows, seed=3)

        assert len(one) == num_rows
        np.testing.assert_array_equal(one, two)


def test_another_seed_draws_other_texts(tmp_path):
    write(tmp_path / "a.parquet", WORDS)
    draws = [
        tuple(texts_of(distinct_embeddings(str(tmp_path), num_rows=5, seed=s)[0], WORDS)) for s in range(20)
    ]

    assert len({frozenset(draw) for draw in draws}) > 15
    assert len({text for draw in draws for text in draw}) > 25


def test_drawing_holds_little_more_than_what_is_drawn(tmp_path):
    """A view of one row would keep its whole row group: at full size 20 GB instead of 40 MB."""
    wide = CLAPIdentity(family="transformers", checkpoint_hash="0" * 16, dim=512)
    for part in range(4):
        write(
            tmp_path / f"{part}.parquet",
            [f"{part} {i}" for i in range(512)],
            identity=wide,
            row_group_size=64,
        )
    group_bytes, all_bytes = 64 * 512 * 4, 4 * 512 * 512 * 4

    tracemalloc.start()
    matrix, _ = distinct_embeddings(str(tmp_path), num_rows=8, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert matrix.shape == (8, 512)
    assert peak < 6 * group_bytes < all_bytes / 5


def test_no_rows_are_no_memory(tmp_path):
    write(tmp_path / "a.parquet", [])

    with pytest.raises(DataError, match=f"the embedded triplets at {tmp_path} hold no rows"):
        distinct_embeddings(str(tmp_path), num_rows=5, seed=0)


def test_the_fingerprint_is_of_the_content_and_not_of_the_place(tmp_path):
    folder = write(tmp_path / "data" / "a.parquet", ["a dog", "rain"]).parent
    write(folder / "b.parquet", ["wind"])
    before = inspect(str(folder)).fingerprint
    assert len(before) == 16

    moved = shutil.copytree(folder, tmp_path / "moved")
    with s3_server("bucket") as files:
        files.put(str(folder), "bucket/data", recursive=True)

        found = [inspect(path).fingerprint for path in (f"{moved}/", "s3://bucket/data", "s3://bucket/data/")]

    assert found == 3 * [before]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write(folder / "a.parquet", ["a dog", "fog!"]),  # other rows, as long as before
        lambda folder: shutil.copy(folder / "a.parquet", folder / "b.parquet"),
        lambda folder: write(folder / "a.parquet", ["a dog", "rain"], row_group_size=1),
        lambda folder: write(folder / "c.parquet", ["a dog"]),
        lambda folder: (folder / "a.parquet").rename(folder / "z.parquet"),  # another order of samples
    ],
    ids=["texts", "one for another", "groups", "file", "name"],
)
def test_another_content_has_another_fingerprint(change, tmp_path):
    write(tmp_path / "data" / "a.parquet", ["a dog", "rain"])
    write(tmp_path / "data" / "b.parquet", ["wind"])
    before = inspect(str(tmp_path / "data")).fingerprint

    change(tmp_path / "data")

    assert inspect(str(tmp_path / "data")).fingerprint != before


def test_rows_are_counted_by_source_over_all_files(tmp_path):
    for name, texts in (("a", ["dog", "dog", "rain"]), ("b", ["dog", "wind"])):
        write(tmp_path / f"{name}.parquet", texts)  # every column but id and split holds the text

    counts = rows_by_source(str(tmp_path))

    assert counts == {"dog": 3, "rain": 1, "wind": 1}
    assert rows_by_source(str(tmp_path), splits=("train",)) == counts
    assert rows_by_source(str(tmp_path), splits=("val",)) == {}
    assert format_rows(counts) == "5 rows: 3 dog, 1 rain, 1 wind"


def test_a_file_that_is_cut_off_is_named_when_its_rows_are_counted(tmp_path):
    file = write(tmp_path / "a.parquet", ["dog"])
    file.write_bytes(file.read_bytes()[:-9])

    with pytest.raises(DataError, match=r"a\.parquet is not a readable Parquet file \(cut off\?\)"):
        rows_by_source(str(tmp_path))
