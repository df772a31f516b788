"""Invariants of the model of a captioning job, and cases that are worked out by hand."""

import math

import numpy as np
import pytest
import simpy

from benchmarks.caption_model import (
    CaptionSimulation,
    Cores,
    Driver,
    Failures,
    Scenario,
    Storage,
    constant,
    mean_and_error,
)

JOB = {"num_nodes": 3, "models_per_node": 2, "num_chunks": 200, "clips": 40, "decode_s": constant(0.01)}
JOB |= {"answer_s": constant(1.0), "driver": Driver(tick_s=0.004, batch_s=0.01, start_s=5)}


def simulate(seed=0, **changes):
    return CaptionSimulation(Scenario(**(JOB | changes)), seed).run()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "failures",
    [
        Failures(),
        Failures(node_mtbf_s=30, replace_s=10),
        Failures(driver_mtbf_s=40),
        Failures(node_mtbf_s=40, replace_s=10, driver_mtbf_s=60),
    ],
    ids=["none", "nodes", "drivers", "both"],
)
def test_every_clip_is_in_the_output_once(failures, seed):
    """Chunks of 40 clips are two batches of 32 and 8."""
    found = simulate(seed, failures=failures, slow_nodes=0.3, slow_factor=3, part_rows=100)

    assert found.output == {(chunk, part): 1 for chunk in range(200) for part in range(2)}
    assert found.clips == 200 * 40
    assert found.begun >= found.answered >= found.clips
    assert found.answer_s == pytest.approx(200 * 40 / 32 * 1.0 + found.lost_s, rel=0.6)


def test_nothing_is_lost_where_nothing_dies():
    found = simulate()

    assert (found.lost, found.lost_s, found.deaths, found.drivers) == (0, 0, 0, 0)
    assert found.begun == found.answered == found.clips
    assert found.answer_s == pytest.approx(200 * 40 / 32)


def test_lost_work_grows_with_the_rate_of_failures():
    means = [
        mean_and_error(
            [simulate(seed, failures=Failures(node_mtbf_s=mtbf, replace_s=10)).lost_s for seed in range(8)]
        )[0]
        for mtbf in (math.inf, 200, 50, 20)
    ]

    assert means == sorted(means)
    assert means[0] == 0 < means[1] < means[-1] / 3


def test_work_is_what_is_in_the_output_and_what_is_lost():
    """A batch that dies half done, one that is lost with its driver, and one that is done again all count."""
    for seed in range(5):
        found = simulate(seed, clips=32, failures=Failures(node_mtbf_s=40, replace_s=10, driver_mtbf_s=60))
        assert found.lost_s > 0
        assert found.answer_s == pytest.approx(found.clips / 32 + found.lost_s)


@pytest.mark.parametrize(
    ("changes", "rate"),
    [
        ({}, 6 * 32),  # six models, a second a batch
        ({"slow_nodes": 1 / 3, "slow_factor": 2.0}, (4 + 2 / 2) * 32),
        ({"decode_s": constant(0.05)}, 3 / 0.05),  # three decoders
        ({"driver": Driver(batch_s=0.4), "answer_s": constant(0.01), "decode_s": constant(0)}, 32 / 0.4),
        ({"keys_per_s": 50.0}, 50),
        ({"storage": Storage(median_s=0.09)}, 3 / (0.01 + 0.09)),
        ({"storage": Storage(median_s=0.09, in_flight=9)}, 3 / (0.01 + 0.01)),
    ],
    ids=["models", "stragglers", "decoders", "driver", "listing", "storage", "several requests"],
)
def test_the_rate_is_that_of_the_narrowest_part(changes, rate):
    endless = {"num_chunks": None, "clips": 32, "driver": Driver(), "max_s": 400.0}
    found = simulate(**(endless | changes))

    assert found.rate(100) == pytest.approx(rate, rel=0.02)


def test_short_tasks_wait_for_the_turns_of_the_driver():
    """A decoder that needs 0.01 s a chunk gets two in each turn of 0.1 s, while models are at work."""
    found = simulate(
        num_nodes=1, models_per_node=8, decoders_per_node=1, clips=32, num_chunks=None, max_s=60.0,
        decode_s=constant(0.01 / 32), answer_s=constant(0.25), driver=Driver(),
    )  # fmt: skip

    assert found.rate(10) == pytest.approx(2 / 0.1 * 32, rel=0.05)


def test_a_node_that_dies_takes_its_work_along():
    """One model is half through its first batch when its node dies for 7 s."""
    simulation = CaptionSimulation(
        Scenario(num_chunks=1, answer_s=constant(4.0), driver=Driver(wait_s=0.01), flush_s=0.0), 0
    )

    def kill():
        yield simulation.env.timeout(2.0)
        simulation.kill_node(simulation.nodes[0], 7.0)

    simulation.env.process(kill())
    found = simulation.run()

    assert found.lost_s == pytest.approx(2.0, abs=0.02)
    assert (found.begun, found.answered, found.clips) == (64, 32, 32)
    assert found.seconds == pytest.approx(2 + 7 + 4, abs=0.1)


def test_a_driver_that_dies_loses_the_rows_that_are_not_written():
    simulation = CaptionSimulation(
        Scenario(num_chunks=10, answer_s=constant(1.0), flush_s=4.0, driver=Driver(wait_s=0.01)), 0
    )

    def kill():
        yield simulation.env.timeout(6.5)
        simulation.kill_driver(3.0)

    simulation.env.process(kill())
    found = simulation.run()

    # four rows of batches are written at 4 s, two wait, one is half done
    assert found.lost == pytest.approx(3 * 32, abs=32)
    assert found.lost_s == pytest.approx(2.5, abs=1.1)
    assert found.clips == 320


def test_cores_are_shared_evenly():
    """Jobs of 1, 1 and 2 s on two cores: 1.5 s each until two end, then the third has one for itself."""
    env = simpy.Environment()
    cores, ended = Cores(env, 2), {}

    def job(name, seconds):
        yield cores.work(seconds)
        ended[name] = env.now

    for name, seconds in {"a": 1.0, "b": 1.0, "c": 2.0}.items():
        env.process(job(name, seconds))
    env.run()

    assert ended == pytest.approx({"a": 1.5, "b": 1.5, "c": 2.5})


def test_requests_that_fail_are_tried_five_times():
    """Half fail: one in 32 files cannot be read, and waits come to (0.5, 1, 2, 4) / 2 seconds."""
    storage, random = Storage(median_s=0.001, error_rate=0.5), np.random.default_rng(0)
    waits, failed = np.array([storage.wait_s(random, 1) for _ in range(5_000)]).T

    assert failed.mean() == pytest.approx(1 / 32, rel=0.25)
    expected = 0.5 * 0.5 + 0.25 * 1 + 0.125 * 2 + 0.0625 * 4 + 0.001 * (1 + 0.5 + 0.25 + 0.125 + 0.0625)
    assert waits.mean() == pytest.approx(expected, rel=0.05)


def test_a_file_that_cannot_be_read_has_its_row():
    found = simulate(storage=Storage(median_s=0.001, error_rate=0.7), clips=32, num_chunks=20)

    assert found.clips == 20 * 32
    assert 0 < found.unreadable < found.clips


def test_the_same_seed_is_the_same_run():
    failures = Failures(node_mtbf_s=40, replace_s=10, driver_mtbf_s=60)
    one, again, other = (simulate(seed, failures=failures) for seed in (1, 1, 2))

    assert (one.seconds, one.lost_s) == (again.seconds, again.lost_s) != (other.seconds, other.lost_s)
