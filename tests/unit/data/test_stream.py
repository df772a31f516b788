"""Rows of a worker: the order of ``data.order``, noise by row and epoch, like lengths together."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.config import RunConfig
from mats_ray.data.embedded import inspect
from mats_ray.data.stream import SpanReader, StreamPlace, spans_of
from mats_ray.data.triplets import (
    EMBEDDING,
    embedded_schema,
    embedding_array,
    embedding_matrix,
    triplet_table,
)
from mats_ray.tasks import Task
from mats_ray.types import CLAPIdentity, Triplet

DIM, NUM_ROWS = 8, 30
CLAP = CLAPIdentity(family="transformers", checkpoint_hash="0" * 16, dim=DIM)


def write_embedded(folder, *, num_rows=NUM_ROWS, group_size=7, identity=CLAP, split_of=lambda _: "train"):
    """Rows whose answers are of many lengths, in row groups of seven."""
    folder.mkdir(parents=True)
    rows = triplet_table(
        Triplet(
            id=f"r/{row}",
            text=f"text {row}",
            instruction="Q",
            answer="a" * (row * 7 % 11),
            task=Task.QA,
            source="test",
            split=split_of(row),
            license="none",
        )
        for row in range(num_rows)
    )
    matrix = np.random.default_rng(0).standard_normal((num_rows, identity.dim))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    table = pa.Table.from_arrays([*rows.columns, embedding_array(matrix)], schema=embedded_schema(identity))
    pq.write_table(table, folder / "part-00000.parquet", row_group_size=group_size)
    return folder


@pytest.fixture
def config(tmp_path):
    return RunConfig.model_validate(
        {
            "toy": {},
            "model": {"clap": {"dim": DIM}},
            "data": {"embedded": str(write_embedded(tmp_path / "embedded")), "chunk_rows": 5},
            "train": {"global_batch_size": 6, "micro_batch_size": 2},
        }
    )


def read(config, start, stop, *, rank=0, num_workers=1):
    place = StreamPlace(start, stop, rank, num_workers)
    data = inspect(config.embedded_path, splits=config.data.splits)
    reader = SpanReader(config, data, place)
    return pa.concat_tables([reader.read(span) for span in spans_of(config, place)])


def test_every_row_comes_once_in_each_epoch(config):
    ids = read(config, 0, 60).column("id").to_pylist()

    for epoch in (ids[:30], ids[30:]):  # 5 global batches each
        assert sorted(epoch) == sorted(f"r/{row}" for row in range(30))


@pytest.mark.parametrize("start", [6, 24, 30, 48])
def test_a_stream_started_later_is_the_rest_of_the_whole(config, start):
    assert read(config, start, 60).equals(read(config, 0, 60).slice(start))


def test_three_workers_read_the_micro_batches_of_one_in_turn(config):
    whole = read(config, 0, 36)
    thirds = [read(config, 0, 36, rank=rank, num_workers=3) for rank in range(3)]

    turns = [third.slice(first, 2) for first in range(0, 12, 2) for third in thirds]
    assert pa.concat_tables(turns).equals(whole)


def test_micro_batches_hold_like_lengths_and_batches_hold_the_same_rows(config):
    grouped, plain = read(config, 0, 30), read(config.replace(data={"group_by_length": False}), 0, 30)

    def padding(table):
        sizes = np.array([len(answer) for answer in table.column("answer").to_pylist()]).reshape(-1, 2)
        return int((sizes.max(axis=1, keepdims=True) - sizes).sum())

    assert padding(grouped) < 0.5 * padding(plain)
    for first in range(0, 30, 6):
        batches = [table.slice(first, 6).column("id").to_pylist() for table in (grouped, plain)]
        assert set(batches[0]) == set(batches[1])


def test_noise_belongs_to_row_and_epoch(config):
    rows = read(config, 0, 60)
    noised = {
        (row, epoch): embedding
        for epoch in (0, 1)
        for row, embedding in zip(
            rows.slice(30 * epoch, 30).column("id").to_pylist(),
            embedding_matrix(rows.slice(30 * epoch, 30).column(EMBEDDING)),
            strict=True,
        )
    }

    again = read(config, 12, 18)  # elsewhere in the plan, the same rows and noise
    for row, embedding in zip(
        again.column("id").to_pylist(), embedding_matrix(again.column(EMBEDDING)), strict=True
    ):
        assert np.array_equal(embedding, noised[row, 0])
    assert all(not np.array_equal(noised[f"r/{row}", 0], noised[f"r/{row}", 1]) for row in range(30))
    assert np.allclose([np.linalg.norm(one) for one in noised.values()], 1, atol=1e-5)


def test_rows_of_other_splits_never_come(config, tmp_path):
    """Groups of one split, of none and of several; the rest is a stream like any other."""
    split_of = {"whole group": range(7), "test": range(9, 14), "": (15, 22)}
    folder = write_embedded(
        tmp_path / "mixed",
        split_of=lambda row: next((split for split, rows in split_of.items() if row in rows), "train"),
    )
    mixed = config.replace(data={"embedded": str(folder)})

    ids = read(mixed, 0, 36).column("id").to_pylist()

    kept = sorted(f"r/{row}" for row in range(7, 30) if row not in range(9, 14))
    assert sorted(ids[:18]) == sorted(ids[18:]) == kept
    assert read(mixed, 12, 36).equals(read(mixed, 0, 36).slice(12))
    data = inspect(str(folder), splits=["train"])
    assert (data.num_rows, data.left_out) == (18, {"whole group": 7, "test": 5})
    assert len(data.groups) == 4  # of five
    assert inspect(str(folder), splits=["train", "test"]).num_rows == 23
    assert inspect(str(folder)).num_rows == 30
