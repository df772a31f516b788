"""``mats prepare`` on Ray Data: local folders and buckets, the report, bad rows, dry runs."""

import json

import pyarrow.parquet as pq
import pytest

from mats_ray.config import RunConfig
from mats_ray.data.prepare.on_ray import prepare
from mats_ray.data.triplets import SCHEMA
from mats_ray.errors import DataError
from mats_ray.storage import UNFINISHED, lock_folder, open_input, parquet_files
from tests.s3 import s3_server
from tests.unit.data.sources.reading import write

pytestmark = pytest.mark.ray

CLOTHO = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"


def config_of(out, *sources, **settings):
    return RunConfig.model_validate(
        {
            "output_dir": str(out),
            "model": {"clap": {"ref": "x"}, "llm": {"path": "x"}},
            "data": {"prepare": {"sources": list(sources), "max_rejected_fraction": 0.5, **settings}},
        }
    )


def raw(folder):
    """Two sources with a split to leave out, a bad row and labels."""
    rows = "".join(f"clip {n}.wav,a {n},b {n},c {n},d {n},e {n}\n" for n in range(20))
    write(folder, "clotho/clotho_captions_development.csv", CLOTHO + rows + "x.wav,a,b\n")
    write(folder, "clotho/clotho_captions_evaluation.csv", CLOTHO + "t.wav,a,b,c,d,e\n")
    write(folder, "esc/esc50.csv", "filename,category\n1.wav,dog\n2.wav,crying_baby\n")
    return [{"source": "clotho", "path": f"{folder}/clotho"}, {"source": "esc50", "path": f"{folder}/esc"}]


def rows_at(path):
    tables = (pq.read_table(open_input(one.path), schema=SCHEMA) for one in parquet_files(str(path)))
    return [row for table in tables for row in table.to_pylist()]


def test_files_become_triplets_with_a_report_and_a_list_of_rejects(ray_cluster, tmp_path):
    config = config_of(tmp_path / "out", *raw(tmp_path), rows_per_file=30)
    triplets = tmp_path / "out" / "triplets"
    write(triplets, "clotho-00000000-00000.parquet", "of an earlier run")

    report = prepare(config)

    rows = rows_at(triplets)
    assert len(rows) == report.total.written == 100 + 2 * 11
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["split"] for row in rows} == {"train"}
    assert report.sources["clotho"].dropped == {"split test": 5}
    assert report.sources["clotho"].rejected == 1
    (rejects,) = (triplets / "rejected").iterdir()
    assert json.loads(rejects.read_text())["reason"] == "3 columns instead of 6"
    assert json.loads((triplets / "report.json").read_text())["total"]["written"] == 122
    assert not (triplets / UNFINISHED).exists()


def test_a_dry_run_reports_the_same_and_writes_nothing(ray_cluster, tmp_path):
    config = config_of(tmp_path / "out", *raw(tmp_path), license_allow=["CC BY-NC 3.0"])

    report = prepare(config, dry_run=True)

    assert report.total.written == 22
    assert report.sources["clotho"].dropped["licence Tampere University, non-commercial"] == 100
    assert report.examples["esc50"]["answer"] == "dog"
    assert not (tmp_path / "out").exists()


def test_a_second_job_on_one_folder_is_refused_and_changes_nothing(ray_cluster, tmp_path):
    config, triplets = config_of(tmp_path / "out", *raw(tmp_path)), tmp_path / "out" / "triplets"
    write(triplets, "clotho-00000000-00000.parquet", "the first job's")

    with lock_folder(str(triplets), by="mats prepare"):
        with pytest.raises(DataError, match=f"^{triplets} is in use: `mats prepare` on .*, process "):
            prepare(config)
        assert (triplets / "clotho-00000000-00000.parquet").read_text() == "the first job's"
        assert prepare(config, dry_run=True).total.written > 0

    assert prepare(config).total.written == len(rows_at(triplets))


def test_too_many_bad_rows_end_the_job_and_its_output_stays_unfinished(ray_cluster, tmp_path):
    write(tmp_path, "esc50.csv", "filename,category\n1.wav,dog\n2.wav,\n")
    source = {"source": "esc50", "path": str(tmp_path / "esc50.csv")}

    with pytest.raises(DataError, match=r"1 of 2 records cannot be used, .*max_rejected_fraction=0\.4"):
        prepare(config_of(tmp_path / "out", source, max_rejected_fraction=0.4))

    with pytest.raises(DataError, match="is unfinished: `mats prepare`"):
        parquet_files(str(tmp_path / "out" / "triplets"))


def test_a_file_of_another_format_is_one_clear_line(ray_cluster, tmp_path):
    write(tmp_path, "esc50.csv", "name,label\n1.wav,dog\n")
    source = {"source": "esc50", "path": str(tmp_path / "esc50.csv")}

    with pytest.raises(DataError) as caught:
        prepare(config_of(tmp_path / "out", source))

    wanted = f"{tmp_path}/esc50.csv has no column filename, category; its header is name, label"
    assert str(caught.value) == wanted


def test_a_bucket_is_read_and_written_like_a_folder(ray_cluster, tmp_path):
    with s3_server("audiotia") as bucket:
        sources = raw(tmp_path)
        bucket.put(str(tmp_path / "clotho"), "audiotia/raw/", recursive=True)
        sources[0]["path"] = "s3://audiotia/raw/clotho"

        remote = prepare(config_of("s3://audiotia/out #1", sources[0]))
        local = prepare(config_of(tmp_path / "out", raw(tmp_path)[0]))

        assert remote.total.written == local.total.written == 100
        found = sorted(rows_at("s3://audiotia/out #1/triplets"), key=lambda row: row["id"])
        assert found == sorted(rows_at(tmp_path / "out" / "triplets"), key=lambda row: row["id"])
