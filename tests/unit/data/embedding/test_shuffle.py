"""The shuffle on storage: no row lost, equal texts together, the same again after any repetition."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.data.embedding import shuffle
from mats_ray.data.embedding.embed_plan import EmbedLedger
from mats_ray.data.embedding.shuffle import gather, scatter
from mats_ray.data.triplets import COLUMNS, row_key
from mats_ray.errors import DataError
from tests.unit.data.embedding.triplets import plan_of, rows_of


def shuffled(plan):
    EmbedLedger(plan).start()
    assert sum(scatter(plan, index) for index in range(len(plan.files))) == plan.num_rows
    return [gather(plan, partition) for partition in range(plan.num_partitions)]


@pytest.mark.parametrize("window", [7, 1_000])
def test_every_row_is_in_the_partition_of_its_text_once(tmp_path, monkeypatch, window):
    monkeypatch.setattr(shuffle, "CHUNK_ROWS", window)
    plan = plan_of(
        tmp_path, rows_of(60, texts=9), [], rows_of(40, texts=9, first=60), embed={"num_partitions": 4}
    )

    parts = shuffled(plan)

    ids = [one for part in parts for one in part.column("id").to_pylist()]
    assert sorted(ids) == sorted(f"clotho/train/{n}" for n in range(100))
    for number, part in enumerate(parts):
        assert {row_key(text) % 4 for text in part.column("text").to_pylist()} <= {number}


def test_the_order_does_not_depend_on_windows_or_repetition(tmp_path, monkeypatch):
    plan = plan_of(tmp_path, rows_of(60, texts=9), embed={"num_partitions": 3})
    first = shuffled(plan)
    monkeypatch.setattr(shuffle, "CHUNK_ROWS", 11)

    assert [part.equals(again) for part, again in zip(first, shuffled(plan), strict=True)] == [True] * 3


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "there are rows without text"),
        ("", "there are rows with an empty text"),
        (b"caf\xe9", "Invalid UTF8"),
    ],
)
def test_rows_without_a_usable_text_are_named(tmp_path, text, fault):
    plan = plan_of(tmp_path, rows_of(3, texts=3))
    kind = pa.binary() if isinstance(text, bytes) else pa.string()
    table = pa.table({name: pa.array([text if name == "text" else "x"], kind) for name in COLUMNS})
    pq.write_table(table, plan.files[0].path)
    EmbedLedger(plan).start()

    with pytest.raises(DataError, match=rf"0\.parquet, rows 1 to 1: {fault}"):
        scatter(plan, 0)
    assert EmbedLedger(plan).scattered_files() == set()
