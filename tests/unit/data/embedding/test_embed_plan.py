"""Pending and finished partitions, and files of another plan."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.config.data import DataConfig
from mats_ray.data.embedding.embed_plan import (
    MANIFEST,
    WORK,
    EmbedLedger,
    FinishedPartition,
    make_plan,
    triplet_files,
)
from mats_ray.data.triplets import COLUMNS
from mats_ray.errors import ConfigError, DataError
from mats_ray.storage import UNFINISHED, parquet_files
from mats_ray.types import CLAPIdentity
from tests.unit.data.embedding.triplets import IDENTITY, plan_of, rows_of, write_triplets

DONE = FinishedPartition(0, 5, 3, ("part-00000.parquet",))


def test_the_number_of_partitions_grows_with_the_rows_unless_it_is_given(tmp_path):
    rows = rows_of(90, texts=10)

    assert plan_of(tmp_path, rows, embed={"rows_per_partition": 40}).num_partitions == 3
    assert plan_of(tmp_path, rows, embed={"num_partitions": 7}).num_partitions == 7


def test_another_clap_layout_or_input_is_another_plan(tmp_path):
    plan = plan_of(tmp_path, rows_of(5, texts=3))
    other_clap = CLAPIdentity(family="laion", checkpoint_hash="f" * 16, dim=8)
    touched = replace(plan.files[0], mtime_ns=plan.files[0].mtime_ns + 1)
    others = [
        replace(plan, identity=other_clap),
        replace(plan, num_partitions=plan.num_partitions + 1),
        replace(plan, chunk_rows=1),
        replace(plan, by_source=True),
        replace(plan, stored=False),
        replace(plan, files=(touched,)),
    ]

    assert len({plan.fingerprint, *(other.fingerprint for other in others)}) == 7
    assert replace(plan, out="elsewhere").fingerprint == plan.fingerprint


def test_the_ledger_keeps_partitions_and_shows_when_all_are_finished(tmp_path):
    plan = plan_of(tmp_path, rows_of(5, texts=3))
    out, ledger = tmp_path / "embedded", EmbedLedger(plan)
    assert ledger.completed() is None
    ledger.start()
    (out / "part-00000.parquet").touch()
    ledger.record(DONE)

    assert EmbedLedger(plan).finished_partitions() == [DONE]
    assert EmbedLedger(plan).completed() is None
    with pytest.raises(
        DataError, match="is unfinished: `mats embed` is at work there or was killed; run it again"
    ):
        parquet_files(str(out))

    (out / "part-00009.parquet").touch()
    ledger.finish([DONE], {"clotho": 5})

    assert json.loads((out / MANIFEST).read_text())["rows_by_source"] == {"clotho": 5}
    assert EmbedLedger(plan).completed() == [DONE]
    assert sorted(one.name for one in out.iterdir()) == ["embedded.json", "part-00000.parquet"]


@pytest.mark.parametrize("change", ["a file gone", "a file more", "unfinished again", "another plan"])
def test_a_finished_embedding_that_was_touched_is_not_finished(tmp_path, change):
    plan = plan_of(tmp_path, rows_of(5, texts=3))
    out, ledger = tmp_path / "embedded", EmbedLedger(plan)
    ledger.start()
    (out / "part-00000.parquet").touch()
    ledger.finish([DONE], {})

    if change == "a file gone":
        (out / "part-00000.parquet").unlink()
    elif change == "a file more":
        (out / "part-00001.parquet").touch()
    elif change == "unfinished again":
        (out / UNFINISHED).write_text("mats embed")
    else:
        plan = replace(plan, chunk_rows=3)

    assert EmbedLedger(plan).completed() is None


def test_work_of_another_plan_is_cleared_away(tmp_path):
    plan = plan_of(tmp_path, rows_of(5, texts=3))
    done = FinishedPartition(0, 1, 1, ())
    for one in (plan, replace(plan, chunk_rows=3)):
        EmbedLedger(one).record(done)

    EmbedLedger(plan).start()

    assert [one.name for one in (tmp_path / "embedded" / WORK).iterdir()] == [plan.fingerprint]
    assert EmbedLedger(plan).finished_partitions() == [done]


def test_triplets_that_cannot_be_embedded_are_named(tmp_path):
    folder = tmp_path / "triplets"
    with pytest.raises(DataError, match="no Parquet files at"):
        triplet_files(str(folder))
    write_triplets(folder, [])
    with pytest.raises(DataError, match="hold no rows"):
        triplet_files(str(folder))
    pq.write_table(pa.table({"text": ["a"]}), folder / "0.parquet")
    with pytest.raises(DataError, match=r"0\.parquet lacks the triplet columns id"):
        triplet_files(str(folder))
    pq.write_table(pa.table({name: [["a"]] for name in COLUMNS}), folder / "0.parquet")
    with pytest.raises(DataError, match=r"0\.parquet: the column 'id' holds list<.*>, triplets are texts"):
        triplet_files(str(folder))
    (folder / "0.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="is not a readable Parquet file"):
        triplet_files(str(folder))


@pytest.mark.parametrize(
    ("triplets", "embedded"),
    [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/", "./a")],
)
def test_folders_that_lie_in_each_other_are_refused(triplets, embedded):
    with pytest.raises(ConfigError, match=r"data\.triplets=.* and data\.embedded=.* lie in each other"):
        make_plan(DataConfig(), (), IDENTITY, triplets=triplets, out=embedded)


def test_folders_beside_each_other_are_apart():
    assert make_plan(DataConfig(), (), IDENTITY, triplets="a/b", out="a/bc").out == "a/bc"


def test_a_folder_with_foreign_files_is_not_written_to(tmp_path):
    plan = plan_of(tmp_path, rows_of(5, texts=3))
    mine = tmp_path / "embedded" / "deep" / "part-00000.parquet"
    write_triplets(mine.parent, rows_of(5, texts=3))
    (mine.parent / "0.parquet").rename(mine)

    with pytest.raises(DataError, match=rf"holds {mine}, which `mats embed` did not write; name another"):
        EmbedLedger(plan).start()

    assert [one for one in (tmp_path / "embedded").rglob("*") if one.is_file()] == [mine]
