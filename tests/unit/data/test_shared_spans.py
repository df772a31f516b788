"""One reading for all workers: what one worker would read, and the rows it would give them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mats_ray.config import RunConfig
from mats_ray.data.embedded import inspect, part_name
from mats_ray.data.mixture import source_folder
from mats_ray.data.shared_spans import SPANS_HELD, SharedSpans
from mats_ray.data.stream import SpanReader, StreamPlace, spans_of
from mats_ray.data.triplets import embedded_schema, embedding_array, triplet_table
from mats_ray.errors import DataError
from mats_ray.tasks import Task
from mats_ray.types import CLAPIdentity, Triplet

CLAP = CLAPIdentity(family="transformers", checkpoint_hash="0" * 16, dim=256)
ROWS = {"clotho": 4000, "macs": 1500, "musicqa": 500}
BATCH, CHUNK_ROWS = 128, 512
EPOCH = sum(ROWS.values()) // BATCH * BATCH
MIXTURES = {"rows": {}, "source": {"by": "source", "weights": ROWS}}


@pytest.fixture
def read_bytes(monkeypatch):
    """The bytes of every read of an object in memory."""
    counts, cat_file = [], MemoryFileSystem.cat_file

    def counted(self, path, start=None, end=None, **more):
        data = cat_file(self, path, start=start, end=end, **more)
        counts.append(len(data))
        return data

    monkeypatch.setattr(MemoryFileSystem, "cat_file", counted)
    return counts


@pytest.fixture(params=MIXTURES)
def config(request):
    """A configuration whose data, two files per folder, is in an object store."""
    root = f"memory://shared-spans/{request.param}"
    rows = embedded_rows()
    sources = np.array(rows.column("source").to_pylist())
    folders = {f"/{source_folder(one)}": sources == one for one in ROWS}
    for folder, used in folders.items() if request.param == "source" else [("", sources != "")]:
        write(rows.take(pa.array(np.flatnonzero(used))), root + folder)
    return RunConfig.model_validate(
        {
            "output_dir": "unused",
            "model": {"clap": {"ref": "x", "dim": CLAP.dim}, "llm": {"path": "x"}},
            "data": {"embedded": root, "chunk_rows": CHUNK_ROWS, "mixture": MIXTURES[request.param]},
            "train": {"global_batch_size": BATCH, "micro_batch_size": 2},
        }
    )


def embedded_rows():
    """Rows of all sources in a mixed order, with answers of many lengths."""
    triplets = [
        Triplet(
            id=f"{source}/{row}",
            text=f"text {row}",
            instruction="Q",
            answer="a" * (row * 7 % 11),
            task=Task.QA,
            source=source,
            split="train",
            license="none",
        )
        for source, count in ROWS.items()
        for row in range(count)
    ]
    rng = np.random.default_rng(0)
    rows = triplet_table(triplets[place] for place in rng.permutation(len(triplets)))
    matrix = rng.standard_normal((len(rows), CLAP.dim))
    return pa.Table.from_arrays([*rows.columns, embedding_array(matrix)], schema=embedded_schema(CLAP))


def write(rows, folder):
    bounds = [0, len(rows) // 2, len(rows)]
    for part, (start, stop) in enumerate(pairwise(bounds)):
        with fsspec.open(f"{folder}/{part_name(part)}", "wb") as sink:
            pq.write_table(rows.slice(start, stop - start), sink, row_group_size=CHUNK_ROWS)


def reader_of(config, *, start=0, stop=EPOCH, num_workers=1):
    return SpanReader(config, inspect(config.embedded_path), StreamPlace(start, stop, 0, num_workers))


def rows_of_all(config, num_workers, **place):
    """The rows of workers that share spans, one thread each, as one worker would have them."""
    reader = reader_of(config, num_workers=num_workers, **place)
    shared, num_spans = SharedSpans(reader, range(num_workers)), len(spans_of(config, reader.place))

    def rows_of(rank):
        return pa.concat_tables(shared.take(index, rank) for index in range(num_spans)).combine_chunks()

    with ThreadPoolExecutor(num_workers) as pool:
        shares = list(pool.map(rows_of, range(num_workers)))
    micro = config.train.micro_batch_size
    turns = [one.slice(start, micro) for start in range(0, len(shares[0]), micro) for one in shares]
    return pa.concat_tables(turns)


def rows_of_one(config, **place):
    reader = reader_of(config, **place)
    return pa.concat_tables(reader.shares(span)[0] for span in spans_of(config, reader.place))


@pytest.mark.parametrize("num_workers", [1, 2, 8, 64])
def test_many_workers_read_the_data_of_an_epoch_once(config, num_workers, read_bytes):
    files = fsspec.filesystem("memory")
    size = sum(files.size(path) for path in files.find(config.embedded_path))
    expected, footers = rows_of_one(config), inspect(config.embedded_path)
    read_bytes.clear()

    found = rows_of_all(config, num_workers)

    assert found.equals(expected)
    assert len(set(found.column("id").to_pylist())) > 0.97 * footers.num_rows
    assert size < sum(read_bytes) < 2 * size


@pytest.mark.parametrize("num_workers", [1, 2, 8, 64])
def test_workers_that_resume_share_the_rest_of_the_stream(config, num_workers, read_bytes):
    start, stop = 21 * BATCH, EPOCH + 8 * BATCH  # into the second epoch
    whole = rows_of_one(config, stop=stop)
    read_bytes.clear()
    rows_of_one(config, start=start, stop=stop)
    bytes_of_one = sum(read_bytes)
    read_bytes.clear()

    found = rows_of_all(config, num_workers, start=start, stop=stop)

    assert found.equals(whole.slice(start))
    assert sum(read_bytes) == bytes_of_one


class NumberedSpans:
    """In place of a reader: a span's share is its number and the rank; keeps the numbers it was given."""

    def __init__(self, *, num_workers=2, on_read=lambda _: None):
        self.config = RunConfig.model_validate(
            {"toy": {}, "data": {"chunk_rows": 3}, "train": {"global_batch_size": 6, "micro_batch_size": 1}}
        )
        self.place, self.on_read, self.read = StreamPlace(0, 120, 0, num_workers), on_read, []

    def shares(self, span):
        self.on_read(span[0] // 6)
        self.read.append(span[0] // 6)
        return [(span[0] // 6, rank) for rank in range(self.place.num_workers)]


def test_a_fast_worker_waits_for_the_slowest():
    """The slow one starts when the fast one has all it can have."""
    taken, ahead = [-1, -1], threading.Event()

    def check(index):
        assert index < max(0, min(taken)) + SPANS_HELD

    shared = SharedSpans(NumberedSpans(on_read=check), range(2))

    def take_all(rank):
        for index in range(20):
            taken[rank] = index
            assert shared.take(index, rank) == (index, rank)
            if index == SPANS_HELD - 1:
                ahead.set()

    with ThreadPoolExecutor(2) as pool:
        fast = pool.submit(take_all, 0)
        assert ahead.wait(60)
        assert taken[1] == -1
        slow = pool.submit(take_all, 1)
        fast.result()
        slow.result()


def test_a_repeated_call_gets_its_rows_and_stops_no_other():
    reader = NumberedSpans()
    shared = SharedSpans(reader, range(2))
    for index in range(8):
        for rank in (0, 1):
            shared.take(index, rank)

    assert shared.take(7, 0) == (7, 0)  # held, as a worker has it only when it takes the next one
    assert shared.take(2, 0) == (2, 0)
    for index in range(8, 20):
        assert shared.take(index, 1) == (index, 1)
        assert shared.take(index, 0) == (index, 0)
    assert reader.read == [*range(8), 2, *range(8, 20)]


def test_a_new_reader_in_the_place_of_a_lost_one_goes_on():
    """Worker 1 had fewer spans than worker 0, worker 2 has enough for a while."""
    shared = SharedSpans(NumberedSpans(num_workers=3), range(3))

    def take(rank, *indices):
        return [shared.take(index, rank) for index in indices] == [(index, rank) for index in indices]

    assert take(0, 12, 13)
    assert take(1, 10, 11, 12)
    assert take(2, 13)
    assert take(0, 14, 15)
    assert take(1, 13, 14, 15, 16)


def test_a_span_that_cannot_be_read_fails_for_every_worker_and_is_read_again():
    broken = {1}

    def fail(index):
        if index in broken:
            raise DataError("damaged")

    reader = NumberedSpans(on_read=fail)
    shared = SharedSpans(reader, range(2))
    for rank in (0, 1):
        assert shared.take(0, rank) == (0, rank)
        with pytest.raises(DataError, match="damaged"):
            shared.take(1, rank)
    broken.clear()

    assert [shared.take(1, rank) for rank in (0, 1)] == [(1, 0), (1, 1)]
    assert reader.read == [0, 1]
