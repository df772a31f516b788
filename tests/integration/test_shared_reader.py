"""Workers of a run take their rows from one reader: on a real Ray, also when the reader is killed."""

import os
import signal
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import ray
from ray.exceptions import RayError

from mats_ray.data.embedded import inspect
from mats_ray.data.on_ray import start_reader, training_rows
from mats_ray.data.stream import StreamPlace, spans_of
from mats_ray.errors import DataError
from mats_ray.on_ray.errors import own_error

pytestmark = pytest.mark.ray
NUM_WORKERS, STEPS = 2, 40


@pytest.fixture
def config(world):
    """Spans of one batch: workers take many."""
    return world.replace(data={"chunk_rows": world.train.global_batch_size // 2})


def place_of(config, rank=0, num_workers=NUM_WORKERS):
    return StreamPlace(0, STEPS * config.train.global_batch_size, rank, num_workers)


def rows_of_one(config):
    data = inspect(config.embedded_path)
    return pa.concat_tables(training_rows(config, data, place_of(config, num_workers=1)))


def streams_of_all(config, reader):
    """Each worker's stream, for a consumer that takes a micro-batch of each in turn."""
    data = inspect(config.embedded_path)
    return [training_rows(config, data, place_of(config, rank), reader=reader) for rank in range(NUM_WORKERS)]


def reader_pids():
    names = ((one.pid, one.cmdline()[:1]) for one in psutil.Process().children(recursive=True))
    return [pid for pid, name in names if name and name[0].startswith("ray::SharedSpans")]


def test_workers_take_in_turn_what_one_would_read(config):
    reader = start_reader(config, inspect(config.embedded_path), place_of(config), range(NUM_WORKERS))

    turns = [one for pair in zip(*streams_of_all(config, reader), strict=True) for one in pair]

    assert len(spans_of(config, place_of(config))) == STEPS
    assert pa.concat_tables(turns).equals(rows_of_one(config))


def test_a_killed_reader_changes_no_row(config):
    before = set(reader_pids())
    reader = start_reader(config, inspect(config.embedded_path), place_of(config), range(NUM_WORKERS))
    ray.get(reader.__ray_ready__.remote())
    (pid,) = set(reader_pids()) - before

    turns = []
    for pair in zip(*streams_of_all(config, reader), strict=True):
        if not turns:
            os.kill(pid, signal.SIGKILL)
        turns += pair

    assert pa.concat_tables(turns).equals(rows_of_one(config))


def test_a_reader_that_meets_damaged_rows_names_the_file(config, tmp_path):
    source = next(one.path for one in inspect(config.embedded_path).groups)
    content = bytearray(Path(source).read_bytes())
    content[8 : len(content) // 2] = b"\xa5" * (len(content) // 2 - 8)
    (tmp_path / "damaged.parquet").write_bytes(content)
    data = inspect(str(tmp_path))

    with pytest.raises(RayError) as caught:
        list(training_rows(config, data, place_of(config, num_workers=1)))

    found = own_error(caught.value)
    assert isinstance(found, DataError)
    assert "damaged.parquet is not a readable Parquet file" in str(found)
