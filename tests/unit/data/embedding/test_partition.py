"""A partition: every row once with its text's embedding, every distinct text through CLAP once."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.config.data import DataConfig
from mats_ray.data.embedded import inspect, part_name
from mats_ray.data.embedding import partition as module
from mats_ray.data.embedding.embed_plan import EmbedLedger, make_plan, triplet_files
from mats_ray.data.embedding.partition import embed_texts, write_partition
from mats_ray.data.embedding.shuffle import scatter
from mats_ray.data.triplets import COLUMNS, EMBEDDING, embedding_matrix, row_key
from mats_ray.errors import DataError
from mats_ray.storage import open_input, parquet_files
from mats_ray.types import CLAPIdentity
from tests.s3 import s3_server
from tests.unit.data.embedding.triplets import (
    IDENTITY,
    CountingCLAP,
    embedding_of,
    plan_of,
    rows_of,
    table_of,
)

ROOT = Path(__file__).resolve().parents[4]


def run_plan(plan, clap):
    EmbedLedger(plan).start()
    for index in range(len(plan.files)):
        scatter(plan, index)
    done = [write_partition(plan, one, clap, batch_size=4) for one in range(plan.num_partitions)]
    EmbedLedger(plan).finish(done, {})
    return done


def test_calls_to_clap_are_distinct_texts(tmp_path):
    clap = CountingCLAP()
    plan = plan_of(
        tmp_path, rows_of(200, texts=23), rows_of(100, texts=23, first=200), embed={"num_partitions": 5}
    )

    done = run_plan(plan, clap)

    assert sorted(clap.seen) == sorted({f"text {n}" for n in range(23)})
    assert sum(one.num_texts for one in done) == 23
    assert sum(one.num_rows for one in done) == 300


def test_rows_are_complete_carry_their_embedding_and_come_by_a_hash_of_their_id(tmp_path):
    plan = plan_of(tmp_path, rows_of(70, texts=9), embed={"num_partitions": 2})
    run_plan(plan, CountingCLAP())

    table = table_of(tmp_path / "embedded")

    assert sorted(table.column("id").to_pylist()) == sorted(f"clotho/train/{n}" for n in range(70))
    expected = np.stack([embedding_of(text) for text in table.column("text").to_pylist()])
    np.testing.assert_allclose(embedding_matrix(table.column(EMBEDDING)), expected, atol=1e-3)
    for part in sorted((tmp_path / "embedded").glob("*.parquet")):
        file = pq.ParquetFile(part)
        keys = [row_key(one) for one in file.read().column("id").to_pylist()]
        assert keys == sorted(keys)
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        assert max(sizes) <= 16
    assert inspect(str(tmp_path / "embedded")).identity == plan.identity


def test_by_source_a_file_holds_one_source_and_a_shared_text_is_still_embedded_once(tmp_path):
    clap = CountingCLAP()
    rows = rows_of(30, texts=7) + rows_of(20, texts=7, source="macs")
    plan = plan_of(tmp_path, rows, embed={"num_partitions": 2}, mixture={"by": "source"})

    run_plan(plan, clap)

    assert len(clap.seen) == 7
    folders = {one.parent.name for one in (tmp_path / "embedded").rglob("*.parquet")}
    assert folders == {"of-clotho", "of-macs"}
    macs = table_of(tmp_path / "embedded" / "of-macs")
    assert (len(macs), set(macs.column("source").to_pylist())) == (20, {"macs"})


def test_online_rows_come_in_the_same_order_without_embeddings_or_clap(tmp_path):
    rows = rows_of(50, texts=9)
    run_plan(plan_of(tmp_path / "a", rows, embed={"num_partitions": 2}), CountingCLAP())
    run_plan(plan_of(tmp_path / "b", rows, embed={"num_partitions": 2, "mode": "online"}), None)

    stored, online = (table_of(tmp_path / one / "embedded") for one in "ab")

    assert online.column_names == list(COLUMNS)
    assert stored.select(COLUMNS).equals(online.select(COLUMNS))
    assert (inspect(str(tmp_path / "a/embedded")).stored, inspect(str(tmp_path / "b/embedded")).stored) == (
        True,
        False,
    )


def test_another_clap_than_the_plans_is_refused(tmp_path):
    plan = plan_of(tmp_path, rows_of(5, texts=3))
    clap = CountingCLAP()
    clap.identity = CLAPIdentity(family="laion", checkpoint_hash="f" * 16, dim=8)

    with pytest.raises(DataError, match="the CLAP became laion"):
        run_plan(plan, clap)


def test_texts_are_embedded_some_at_a_time_in_any_order_given(monkeypatch):
    monkeypatch.setattr(module, "TEXTS_PER_BLOCK", 3)
    texts = ["ccc", "a", "bb", "dddd", "e"]

    found = embed_texts(CountingCLAP(), texts, batch_size=2)

    np.testing.assert_array_equal(found, np.stack([embedding_of(one) for one in texts]).astype(np.float16))


def test_a_bucket_works_like_a_folder(tmp_path):
    local = plan_of(tmp_path, rows_of(60, texts=9), embed={"num_partitions": 3})
    run_plan(local, CountingCLAP())
    with s3_server("sets") as bucket:
        bucket.put(str(tmp_path / "triplets"), "sets/run #1/é/", recursive=True)
        settings = DataConfig.model_validate({"chunk_rows": 16, "embed": {"num_partitions": 3}})
        triplets, out = "s3://sets/run #1/é/triplets", "s3://sets/run #1/é/embedded"
        plan = make_plan(settings, triplet_files(triplets), IDENTITY, triplets=triplets, out=out)

        done = run_plan(plan, CountingCLAP())

        assert EmbedLedger(plan).completed() == done
        files = parquet_files(out)
        assert [file.name for file in files] == [part_name(n) for n in range(3)]
        tables = [pq.read_table(open_input(file.path)) for file in files]
        assert pa.concat_tables(tables).equals(table_of(tmp_path / "embedded"))


JOB = """
import sys
from pathlib import Path
from mats_ray.data.embedding.partition import write_partition
from mats_ray.data.embedding.embed_plan import EmbedLedger
from mats_ray.data.embedding.shuffle import scatter
from tests.unit.data.embedding.triplets import CountingCLAP, planned

class Stuck(CountingCLAP):
    def encode_text(self, texts, *, batch_size=64):
        if EmbedLedger(plan).finished_partitions()[2:]:
            print("in the middle", flush=True)
            sys.stdin.readline()  # for ever
        return super().encode_text(texts)

plan = planned(Path(sys.argv[1]), embed={"num_partitions": 6})
EmbedLedger(plan).start()
scatter(plan, 0)
for partition in range(6):
    EmbedLedger(plan).record(write_partition(plan, partition, Stuck(), batch_size=4))
"""


def test_after_sigkill_finished_partitions_stay_and_the_rest_is_what_an_unbroken_run_makes(tmp_path):
    rows = rows_of(120, texts=40)
    plan = plan_of(tmp_path / "broken", rows, embed={"num_partitions": 6})
    command = [sys.executable, "-c", JOB, str(tmp_path / "broken")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as job:
        assert job.stdout.readline() == b"in the middle\n"
        job.kill()
    ledger, clap = EmbedLedger(plan), CountingCLAP()
    done = {one.partition: one for one in ledger.finished_partitions()}
    times = {n: (tmp_path / "broken/embedded" / one.files[0]).stat().st_mtime_ns for n, one in done.items()}
    assert list(done) == [0, 1, 2]
    assert ledger.scattered_files() == {0}

    rest = [write_partition(plan, n, clap, batch_size=4) for n in range(6) if n not in done]
    for one in rest:
        ledger.record(one)
    ledger.finish(ledger.finished_partitions(), {})

    assert len(clap.seen) == 40 - sum(one.num_texts for one in done.values())
    assert {n: (tmp_path / "broken/embedded" / done[n].files[0]).stat().st_mtime_ns for n in done} == times
    run_plan(plan_of(tmp_path / "whole", rows, embed={"num_partitions": 6}), CountingCLAP())
    assert table_of(tmp_path / "broken/embedded").equals(table_of(tmp_path / "whole/embedded"))


def test_one_letter_of_one_answer_makes_another_fingerprint(tmp_path):
    """Sizes and statistics in the footers are the same: only the hash of the rows differs."""
    rows = rows_of(70, texts=9)
    changed = [
        dataclasses.replace(row, answer="answer 4x") if row.id.endswith("/40") else row for row in rows
    ]
    found = []
    for name, some in (("a", rows), ("b", rows), ("c", changed)):
        run_plan(plan_of(tmp_path / name, some, embed={"num_partitions": 2}), CountingCLAP())
        found.append(inspect(str(tmp_path / name / "embedded")).fingerprint)

    assert found[0] == found[1] != found[2]
