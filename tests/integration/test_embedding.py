"""Embedding and streaming with Ray Data: each text once, the same stream for any number of workers."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.data.embedded import inspect
from mats_ray.data.embedding.embed_plan import EmbedLedger, make_plan, triplet_files
from mats_ray.data.embedding.on_ray import embed
from mats_ray.data.embedding.partition import write_partition
from mats_ray.data.embedding.shuffle import scatter
from mats_ray.data.on_ray import training_rows
from mats_ray.data.stream import SpanReader, StreamPlace, spans_of
from mats_ray.data.triplets import EMBEDDING, embedding_matrix
from mats_ray.errors import DataError
from mats_ray.models.clap import load_clap
from mats_ray.storage import lock_folder, open_input, parquet_files
from mats_ray.toy.world import ensure_world
from tests.toy import tiny_config

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def embedded(ray_cluster, tmp_path_factory):
    config = tiny_config(tmp_path_factory.mktemp("embedding"))
    ensure_world(config)
    return config, embed(config)


def table_of(path):
    return pa.concat_tables([pq.read_table(open_input(one.path)) for one in parquet_files(path)])


def stream(config, start, stop, *, rank=0, num_workers=1):
    place = StreamPlace(start, stop, rank, num_workers)
    tables = list(training_rows(config, inspect(config.embedded_path), place))
    assert {len(table) for table in tables} == {config.train.micro_batch_size}
    return pa.concat_tables(tables)


def test_every_triplet_is_there_once_with_the_embedding_of_its_text(embedded):
    config, summary = embedded
    triplets, rows = table_of(config.triplets_path), table_of(config.embedded_path)

    assert summary.num_rows == len(rows) == len(triplets)
    manifest = json.loads(Path(config.embedded_path, "embedded.json").read_text())
    assert manifest["rows_by_source"] == {"toy": len(rows)}
    assert rows.sort_by("id").select(triplets.column_names).equals(triplets.sort_by("id"))
    expected = load_clap(config.clap_ref).encode_text(rows.column("text").to_pylist()).numpy()
    assert np.abs(embedding_matrix(rows.column(EMBEDDING)) - expected).max() < 1e-3  # float16


def test_each_distinct_text_is_embedded_once(embedded):
    config, summary = embedded

    assert summary.num_texts == len(set(table_of(config.triplets_path).column("text").to_pylist()))


def test_embedding_again_gives_the_same_files_and_leaves_no_others(embedded):
    config, _ = embedded
    files = [one.path for one in parquet_files(config.embedded_path)]
    before = [pq.read_table(file) for file in files]
    shutil.copy(files[0], f"{config.embedded_path}/part-00099.parquet")  # of a run with more partitions

    again = embed(config)

    assert again.num_encoded == again.num_texts
    assert [one.path for one in parquet_files(config.embedded_path)] == files
    assert all(table.equals(pq.read_table(file)) for table, file in zip(before, files, strict=True))


def test_two_workers_share_the_stream_of_one(embedded):
    config, _ = embedded
    size, micro = config.train.global_batch_size, config.train.micro_batch_size
    whole = stream(config, 0, 4 * size)
    halves = [stream(config, 0, 4 * size, rank=rank, num_workers=2) for rank in (0, 1)]

    turns = [half.slice(start, micro) for start in range(0, 2 * size, micro) for half in halves]
    assert pa.concat_tables(turns).equals(whole)


def test_a_stream_resumes_at_any_step(embedded):
    config, summary = embedded
    size = config.train.global_batch_size
    start = (summary.num_rows // size - 2) * size
    stop = start + 6 * size  # into the second epoch

    assert stream(config, start, stop).equals(stream(config, 0, stop).slice(start))


def test_noise_is_fresh_in_each_epoch_and_clean_rows_are_stored(embedded):
    config, summary = embedded
    # whole global batches, two epochs
    config = config.replace(train={"global_batch_size": 2 * summary.num_rows, "micro_batch_size": 2})
    rows = stream(config, 0, 2 * summary.num_rows)
    ids = rows.column("id").to_pylist()
    second_of_each = [row for row, one in enumerate(ids) if one in ids[:row]]
    first_of_each = [row for row in range(len(ids)) if row not in second_of_each]
    first, second = rows.take(pa.array(first_of_each)), rows.take(pa.array(second_of_each))
    assert len(first) == len(second) == summary.num_rows

    def by_row(table):
        keys = zip(table.column("instruction").to_pylist(), table.column("answer").to_pylist(), strict=True)
        return sorted(keys)

    assert by_row(first) == by_row(second)
    matrices = [embedding_matrix(part.column(EMBEDDING)) for part in (first, second)]
    assert all(np.allclose(np.linalg.norm(m, axis=1), 1, atol=1e-5) for m in matrices)
    shared = {row.tobytes() for row in matrices[0]} & {row.tobytes() for row in matrices[1]}
    assert not shared


def test_a_finished_embedding_run_again_does_nothing(embedded):
    config, summary = embedded
    before = {path: path.stat().st_mtime_ns for path in Path(config.embedded_path).rglob("*.parquet")}

    again = embed(config)

    assert (again.num_rows, again.num_texts, again.num_encoded) == (summary.num_rows, summary.num_texts, 0)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_killed_job_resumes_and_repeats_no_finished_partition(embedded, tmp_path):
    """The state after a kill (see test_partition.py) is made here by hand: three of thirty partitions."""
    config, summary = embedded
    broken = config.replace(data={"embedded": str(tmp_path / "broken"), "embed": {"num_partitions": 30}})
    clap = load_clap(broken.clap_ref)
    triplets, out = broken.triplets_path, broken.embedded_path
    plan = make_plan(broken.data, triplet_files(triplets), clap.identity, triplets=triplets, out=out)
    ledger = EmbedLedger(plan)
    ledger.start()
    for index in range(len(plan.files)):
        scatter(plan, index)
    done = [write_partition(plan, partition, clap, batch_size=64) for partition in (0, 7, 29)]
    for one in done:
        ledger.record(one)
    left_over = tmp_path / "broken" / ".part-00004.parquet.0123abcd.pending"
    left_over.write_bytes(b"PAR1")
    times = {one: one.stat().st_mtime_ns for one in (tmp_path / "broken").glob("*.parquet")}

    with (
        lock_folder(broken.embedded_path, by="mats embed"),
        pytest.raises(DataError, match="is in use: `mats embed` on "),
    ):
        embed(broken)
    assert left_over.exists()
    rerun = embed(broken)

    assert not left_over.exists()
    assert rerun.num_texts == summary.num_texts
    assert rerun.num_encoded == summary.num_texts - sum(one.num_texts for one in done)
    assert {one: one.stat().st_mtime_ns for one in times} == times
    rows, unbroken = (table_of(one.embedded_path).sort_by("id") for one in (broken, config))
    assert rows.drop_columns(EMBEDDING).equals(unbroken.drop_columns(EMBEDDING))
    matrices = [embedding_matrix(table.column(EMBEDDING)) for table in (rows, unbroken)]
    np.testing.assert_allclose(matrices[0], matrices[1], atol=1e-3)  # float16, batched otherwise
    assert not (tmp_path / "broken" / "_shuffle").exists()


KILLED = """
import os, signal, sys, ray
from mats_ray.data.embedding import on_ray
from tests.integration.test_embedding import in_eight_parts

class Progress(on_ray.Progress):
    def advance(self, *args, **more):
        if self.label == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        super().advance(*args, **more)

on_ray.Progress = Progress
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
on_ray.embed(in_eight_parts(*sys.argv[3:]))
"""


def in_eight_parts(output_dir, embedded):
    return tiny_config(Path(output_dir), data={"embedded": embedded, "embed": {"num_partitions": 8}})


@pytest.mark.slow
def test_a_driver_killed_twice_leaves_what_an_unbroken_run_gives(embedded, ray_cluster, tmp_path):
    unbroken, summary = embedded
    out = str(tmp_path / "killed")
    for stage in ("shuffle", "embed"):
        command = [sys.executable, "-c", KILLED, ray_cluster["gcs_address"], stage]
        command += [unbroken.output_dir, out]
        killed = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
        assert killed.returncode == -signal.SIGKILL

    rerun = embed(in_eight_parts(unbroken.output_dir, out))

    assert rerun.num_texts == summary.num_texts
    assert rerun.num_encoded < summary.num_texts
    rows, expected = (table_of(path).sort_by("id") for path in (out, unbroken.embedded_path))
    assert rows.drop_columns(EMBEDDING).equals(expected.drop_columns(EMBEDDING))
    matrices = [embedding_matrix(table.column(EMBEDDING)) for table in (rows, expected)]
    np.testing.assert_allclose(matrices[0], matrices[1], atol=1e-3)  # float16, batched otherwise


def test_online_training_reads_the_stream_that_stored_embeddings_give(embedded, tmp_path):
    config, summary = embedded
    online = config.replace(data={"embedded": str(tmp_path / "online"), "embed": {"mode": "online"}})

    written = embed(online)
    found, expected = stream(online, 0, 60), stream(config, 0, 60)

    with pytest.raises(DataError, match=r"was written with data\.embed\.mode=online"):
        stream(online.replace(data={"embed": {"mode": "stored"}}), 0, 12)
    assert (written.num_rows, written.num_encoded) == (summary.num_rows, 0)
    assert EMBEDDING not in pq.read_schema(parquet_files(online.embedded_path)[0].path).names
    assert found.drop_columns(EMBEDDING).equals(expected.drop_columns(EMBEDDING))
    matrices = [embedding_matrix(table.column(EMBEDDING)) for table in (found, expected)]
    np.testing.assert_allclose(matrices[0], matrices[1], atol=2e-3)  # float16, batched otherwise
    shutil.rmtree(tmp_path / "online")


def test_a_mixture_streams_batches_of_one_source_each(embedded, tmp_path):
    config, _ = embedded
    mixed = config.replace(
        data={"embedded": str(tmp_path / "mixed"), "mixture": {"by": "source", "weights": {"toy": 1}}}
    )
    with pytest.raises(DataError, match=r"was embedded with data\.mixture\.by=rows"):
        stream(mixed.replace(data={"embedded": config.embedded_path}), 0, 8)

    embed(mixed)
    size = config.train.global_batch_size
    data = inspect(mixed.embedded_path)
    alone = SpanReader(mixed, data, StreamPlace(0, 70 * size, 1, 2))

    half = stream(mixed, 0, 70 * size, rank=1, num_workers=2)  # more than one task's share of batches

    assert half.equals(pa.concat_tables(alone.read(span) for span in spans_of(mixed, alone.place)))
    assert len(half) == 70 * size // 2


def test_missing_triplets_are_named(ray_cluster, tmp_path):
    with pytest.raises(DataError, match="no Parquet files at"):
        embed(tiny_config(tmp_path))


def test_a_table_without_triplet_columns_is_named(ray_cluster, tmp_path):
    config = tiny_config(tmp_path, data={"triplets": str(tmp_path / "triplets")})
    (tmp_path / "triplets").mkdir()
    pq.write_table(pa.table({"text": ["a dog"]}), tmp_path / "triplets" / "x.parquet")

    with pytest.raises(DataError, match="lacks the triplet columns id, instruction"):
        embed(config)
