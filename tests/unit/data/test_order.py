"""The order of samples: a pure function of seed and data, the same for every number of workers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mats_ray.data.order import RowGroup, chunks, row_order, rows_of_worker
from mats_ray.errors import DataError

GROUPS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)
SEEDS = st.integers(0, 2**31 - 1)
few_examples = settings(max_examples=60, deadline=None)


def groups_of(sizes):
    return [RowGroup(f"part-{index}.parquet", 0, size) for index, size in enumerate(sizes)]


def stream(groups, *, seed, start, stop, batch_size=1, rank=0, num_workers=1):
    """What one worker reads of samples ``start`` to ``stop``: (path, row), in order."""
    place = {"batch_size": batch_size, "rank": rank, "num_workers": num_workers}
    return [
        (chunk.group.path, int(row))
        for chunk in chunks(groups, seed=seed, start=start, stop=stop)
        for row in rows_of_worker(chunk, seed=seed, span=(start, stop), **place)
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
    sizes=GROUPS,
    seed=SEEDS,
    num_workers=st.integers(1, 5),
    per_worker=st.integers(1, 4),
    num_batches=st.integers(1, 6),
    first_batch=st.integers(0, 9),
)
def test_workers_together_read_the_batches_of_one(
    sizes, seed, num_workers, per_worker, num_batches, first_batch
):
    groups, batch_size = groups_of(sizes), num_workers * per_worker
    span = {"seed": seed, "start": first_batch * batch_size, "stop": (first_batch + num_batches) * batch_size}

    alone = stream(groups, **span)
    parts = [
        stream(groups, **span, batch_size=batch_size, rank=rank, num_workers=num_workers)
        for rank in range(num_workers)
    ]

    together = [
        row
        for batch in range(num_batches)
        for part in parts
        for row in part[batch * per_worker : (batch + 1) * per_worker]
    ]
    assert together == alone
    assert {len(part) for part in parts} == {num_batches * per_worker}


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
