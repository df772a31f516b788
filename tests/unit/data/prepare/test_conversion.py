"""Reading one file to its end: parts of a fixed size, rejects in a file of their own, nothing written dry."""

import json
import tracemalloc

import pyarrow.parquet as pq
import pytest

from mats_ray.config import RunConfig
from mats_ray.data.prepare import conversion as module
from mats_ray.data.prepare.conversion import convert_file
from mats_ray.data.prepare.input_files import find_input_files
from mats_ray.data.triplets import SCHEMA
from tests.unit.data.sources.reading import write


def config_of(tmp_path, path, **settings):
    (tmp_path / "out" / "triplets").mkdir(parents=True, exist_ok=True)
    source = {"source": "audiocaps", "path": str(path), "split": "train"}
    return RunConfig.model_validate(
        {
            "output_dir": str(tmp_path / "out"),
            "model": {"clap": {"ref": "x"}, "llm": {"path": "x"}},
            "data": {"prepare": {"sources": [source], **settings}},
        }
    )


def run(config, *, write=True):
    settings, out = config.data.prepare, config.triplets_path if write else None
    return [
        step
        for one in find_input_files(settings)
        for step in convert_file(one, settings, seed=config.seed, out=out)
    ]


def audiocaps(tmp_path, count, *, bad=()):
    rows = [f"{n},y{n},0,{'' if n in bad else f'caption {n}'}" for n in range(count)]
    return write(
        tmp_path, "train.csv", "audiocap_id,youtube_id,start_time,caption\r\n" + "\r\n".join(rows) + "\r\n"
    )


def test_parts_hold_so_many_rows_and_rejects_are_listed_with_file_row_and_reason(tmp_path):
    path = audiocaps(tmp_path, 25, bad={3, 17})
    config = config_of(tmp_path, path, rows_per_file=10)

    steps = run(config)

    out = tmp_path / "out" / "triplets"
    assert sorted(one.name for one in out.glob("*.parquet")) == [step.file for step in steps]
    tables = [pq.read_table(out / step.file) for step in steps]
    assert [len(table) for table in tables] == [10, 10, 3]
    assert all(table.schema.equals(SCHEMA) for table in tables)
    assert sum(step.counts.rejected for step in steps) == 2
    assert sum(step.counts.num_bytes for step in steps) == path.stat().st_size
    (rejects,) = (out / "rejected").glob("*.jsonl")
    assert [json.loads(line) for line in rejects.read_text().splitlines()] == [
        {"file": str(path), "row": 5, "reason": "empty caption"},
        {"file": str(path), "row": 19, "reason": "empty caption"},
    ]
    assert steps[0].example["id"] == "audiocaps/train/0"


def test_the_same_file_gives_the_same_parts_and_another_seed_other_prompts(tmp_path):
    config = config_of(tmp_path, audiocaps(tmp_path, 30))

    def table():
        (step,) = run(config)
        return pq.read_table(tmp_path / "out" / "triplets" / step.file)

    first = table()
    assert table().equals(first)
    config = config.replace(seed=1)
    other = table()
    assert other.drop_columns("instruction").equals(first.drop_columns("instruction"))
    assert not other.equals(first)


def test_a_dry_run_counts_and_writes_nothing(tmp_path):
    config = config_of(tmp_path, audiocaps(tmp_path, 5, bad={1}))

    (step,) = run(config, write=False)

    assert (step.counts.written, step.counts.rejected) == (4, 1)
    assert list((tmp_path / "out" / "triplets").iterdir()) == []


def test_a_file_of_dropped_rows_still_reports_progress(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RECORDS_PER_REPORT", 10)
    config = config_of(tmp_path, audiocaps(tmp_path, 25), license_allow=["none"])

    steps = run(config)

    assert [step.counts.records for step in steps] == [10, 10, 5]
    assert [step.file for step in steps] == [None] * 3


@pytest.mark.parametrize("rows_per_file", [1_000])
def test_memory_does_not_grow_with_rows(tmp_path, rows_per_file):
    def peak(count):
        config = config_of(tmp_path, audiocaps(tmp_path, count), rows_per_file=rows_per_file)
        tracemalloc.start()
        for _ in convert_file(
            find_input_files(config.data.prepare)[0], config.data.prepare, seed=config.seed
        ):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)  # what is loaded once
    assert peak(8_000) < 1.3 * peak(2_000)
