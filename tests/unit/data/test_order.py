"""The order of samples: a pure function of seed and data, the same for every number of workers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mats_ray.data.order import RowGroup, chunks, row_order, rows_of_span, rows_of_worker, spans
from mats_ray.errors import DataError

GROUPS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)
SEEDS = st.integers(0, 2**31 - 1)
few_examples = settings(max_examples=60, deadline=None)


def groups_of(sizes):
    return [RowGroup(f"part-{index}.parquet", 0, size) for index, size in enumerate(sizes)]


def stream(groups, *, seed, start, stop):
    """Samples ``start`` to ``stop`` of the stream: (path, row), in order."""
    return [
        (chunk.group.path, int(row))
        for chunk in chunks(groups, seed=seed, start=start, stop=stop)
        for row in rows_of_span(chunk, seed=seed, span=(start, stop))
    ]


def all_rows(groups):
    return [(group.path, row) for group in groups for row in range(group.num_rows)]


@few_examples
@given(sizes=GROUPS, seed=SEEDS, epoch=st.integers(0, 3))
def test_every_row_comes_once_in_each_epoch(sizes, seed, epoch):
    groups, size = groups_of(sizes), sum(sizes)

    read = stream(groups, seed=seed, start=epoch * size, stop=(epoch + 1) * size)

    assert sorted(read) == all_rows(groups)


@few_examples
@given(
    start=st.integers(0, 9),
    num_batches=st.integers(0, 9),
    batch_size=st.integers(1, 7),
    num_rows=st.integers(1, 40),
)
def test_spans_are_whole_batches_without_a_gap(start, num_batches, batch_size, num_rows):
    first, last = start * batch_size, (start + num_batches) * batch_size

    cut = spans(first, last, batch_size=batch_size, num_rows=num_rows)

    assert [sample for span in cut for sample in range(*span)] == list(range(first, last))
    assert all((stop - start) % batch_size == 0 for start, stop in cut)
    assert all(stop - start <= max(batch_size, num_rows) for start, stop in cut)


def worker_rows(lengths, *, num_workers, batch_size=12, micro_batch_size=2):
    """Each worker's rows as micro-batches."""
    shape = {"batch_size": batch_size, "micro_batch_size": micro_batch_size, "num_workers": num_workers}
    return [
        rows_of_worker(np.array(lengths), rank=rank, **shape).reshape(-1, micro_batch_size).tolist()
        for rank in range(num_workers)
    ]


@few_examples
@given(
    lengths=st.lists(st.integers(1, 9), min_size=36, max_size=36),
    num_workers=st.sampled_from([1, 2, 3, 6]),
)
def test_workers_together_take_the_batches_of_one(lengths, num_workers):
    """Every row once, in its own global batch, in the micro-batch one worker alone would put it in."""
    (alone,) = worker_rows(lengths, num_workers=1)
    shares = worker_rows(lengths, num_workers=num_workers)

    assert [micro_batch for turn in zip(*shares, strict=True) for micro_batch in turn] == alone
    for batch in range(3):
        rows = sorted(row for micro_batch in alone[6 * batch : 6 * batch + 6] for row in micro_batch)
        assert rows == list(range(12 * batch, 12 * batch + 12))


def test_rows_of_like_length_are_padded_together():
    lengths = [9, 1, 9, 1, 5, 5, 2, 7, 2, 7, 5, 5]

    (micro_batches,) = worker_rows(lengths, num_workers=1)

    assert [[lengths[row] for row in rows] for rows in micro_batches] == [
        [1, 1],
        [2, 2],
        [5, 5],
        [5, 5],
        [7, 7],
        [9, 9],
    ]


def test_without_lengths_the_stream_keeps_its_order():
    assert np.concatenate(worker_rows([0] * 24, num_workers=1)[0]).tolist() == list(range(24))


@few_examples
@given(sizes=GROUPS, seed=SEEDS, start=st.integers(0, 60), length=st.integers(0, 30))
def test_a_stream_resumed_anywhere_is_the_rest_of_the_unbroken_one(sizes, seed, start, length):
    groups = groups_of(sizes)

    unbroken = stream(groups, seed=seed, start=0, stop=start + length)

    assert stream(groups, seed=seed, start=start, stop=start + length) == unbroken[start:]


@few_examples
@given(sizes=GROUPS, seed=SEEDS, start=st.integers(0, 60), length=st.integers(1, 30))
def test_only_groups_that_hold_wanted_samples_are_read(sizes, seed, start, length):
    wanted = list(chunks(groups_of(sizes), seed=seed, start=start, stop=start + length))

    for chunk in wanted:
        assert chunk.first_sample < start + length
        assert chunk.first_sample + chunk.group.num_rows > start
    assert sum(chunk.group.num_rows for chunk in wanted) >= length


def test_the_same_seed_gives_the_same_order_another_seed_another():
    groups = groups_of([20, 20, 20])

    assert stream(groups, seed=1, start=0, stop=60) == stream(groups, seed=1, start=0, stop=60)
    assert stream(groups, seed=1, start=0, stop=60) != stream(groups, seed=2, start=0, stop=60)


def test_epochs_differ_in_the_order_of_groups_and_of_rows():
    groups = groups_of([30, 30, 30, 30, 30])
    epochs = [stream(groups, seed=0, start=150 * epoch, stop=150 * (epoch + 1)) for epoch in range(4)]

    assert len({tuple(rows) for rows in epochs}) == 4
    assert len({tuple(dict.fromkeys(path for path, _ in rows)) for rows in epochs}) > 1
    of_one_group = {tuple(row for path, row in rows if path == "part-0.parquet") for rows in epochs}
    assert len(of_one_group) == 4


def test_groups_of_one_size_are_shuffled_differently_within_an_epoch():
    orders = [
        tuple(row_order(chunk, seed=0)) for chunk in chunks(groups_of([30] * 4), seed=0, start=0, stop=120)
    ]

    assert len(set(orders)) == 4


def test_a_row_stands_anywhere_with_equal_chance():
    """Means over 400 seeds: a shuffle that leaves rows near their old place would show."""
    groups = groups_of([8, 8, 8, 8])
    places = np.array(
        [
            [order.index(row) for row in all_rows(groups)]
            for order in (stream(groups, seed=seed, start=0, stop=32) for seed in range(400))
        ]
    )

    assert np.abs(places.mean(axis=0) - 15.5).max() < 5 * 9.2 / np.sqrt(400)


def test_data_without_rows_is_refused():
    with pytest.raises(DataError, match="holds no rows"):
        list(chunks(groups_of([0, 0]), seed=0, start=0, stop=4))
