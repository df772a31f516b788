"""Training outlives its driver and its nodes: real processes of a real cluster, killed."""

import itertools
import signal
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from mats_ray.data.embedded import inspect
from mats_ray.data.stream import SpanReader, StreamPlace, rebatched, spans_of
from mats_ray.models.build import build_mats
from mats_ray.train.dataloader import micro_batches
from mats_ray.train.engine import TorchEngine
from mats_ray.train.loop import LocalContext, fit
from mats_ray.train.metrics_logger import read_records
from mats_ray.train.on_ray import train
from tests.runs import driver, last_step, losses, metrics_of, other_run, train_worker_pids, until

pytestmark = pytest.mark.ray

LAST = "step-00000060"
QUICK_TO_NOTICE = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}


@pytest.fixture(scope="module")
def nodes():
    """A cluster of its own: a head too small for a training worker, and nodes that each hold one."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": QUICK_TO_NOTICE})
    yield cluster
    cluster.shutdown()


def pid_of(node):
    return node.all_processes["raylet"][0].process.pid


def trained_and_moments(config):
    """The bytes of what the last checkpoint holds; a file's safetensors header is part of it."""
    folder = Path(config.runs_dir) / config.name / "checkpoints" / LAST
    return [(folder / name).read_bytes() for name in ("trained.safetensors", "moments.safetensors")]


@pytest.mark.slow
def test_a_killed_driver_costs_nothing_but_time(world, unbroken, ray_cluster, tmp_path):
    _, reference_config = unbroken
    config = other_run(world, "driverless")
    with driver(config, ray_cluster["gcs_address"], tmp_path / "driver.log") as process:
        until(lambda: last_step(config) >= 12, what="step 12")
        process.send_signal(signal.SIGKILL)
        process.wait()
    seen = last_step(config)

    train(config)

    assert 12 <= seen < 60
    assert losses(metrics_of(config)) == losses(metrics_of(reference_config))
    assert trained_and_moments(config) == trained_and_moments(reference_config)


@pytest.mark.slow
def test_a_killed_node_costs_nothing_but_time(world, unbroken, nodes, tmp_path):
    """As many workers before and after: another node replaces it."""
    _, reference_config = unbroken
    first, second = (nodes.add_node(num_cpus=2) for _ in range(2))
    config = other_run(world, "nodeless", scaling={"cpus_per_worker": 2})
    with driver(config, nodes.address, tmp_path / "driver.log") as process:
        until(lambda: last_step(config) >= 1, what="the first record")
        nodes.remove_node(second, allow_graceful=False)
        third = nodes.add_node(num_cpus=2)
        until(lambda: train_worker_pids(pid_of(third)), what="a training worker on the new node")
        assert process.wait(120) == 0, (tmp_path / "driver.log").read_text()

    assert losses(metrics_of(config)) == losses(metrics_of(reference_config))
    assert trained_and_moments(config) == trained_and_moments(reference_config)
    for node in (first, third):
        nodes.remove_node(node)


def alone(config, num_steps):
    """Losses by step of the plain loop in this process: no workers, no Ray, no DeepSpeed."""
    config = config.replace(
        train={"num_steps": num_steps, "engine": {"type": "torch"}}, scaling={"num_workers": 1}
    )
    model, prompts = build_mats(config.model, llm_path=config.llm_path, seed=config.seed)
    place = StreamPlace(0, num_steps * config.train.global_batch_size, 0, 1)
    reader = SpanReader(config, inspect(config.embedded_path), place)
    rows = rebatched(map(reader.read, spans_of(config, place)), config.train.micro_batch_size)
    context = LocalContext()
    fit(TorchEngine(model, config.train.optim), micro_batches(rows, prompts, config), context, config)
    return {int(record["step"]): record["loss"] for record in context.records}


def workers_by_step(config):
    records = read_records(metrics_of(config))
    return [int(records[step]["num_workers"]) for step in sorted(records)]


@pytest.mark.slow  # two minutes: three groups of workers start one after the other
def test_a_lost_node_shrinks_the_run_and_a_new_one_grows_it(world, nodes, tmp_path):
    """The run is longer than the test: its losses until then are those of one process alone."""
    first, second = (nodes.add_node(num_cpus=2) for _ in range(2))
    config = other_run(
        world,
        "elastic",
        train={
            "num_steps": 400,
            "global_batch_size": 96,
            "schedule": {"type": "constant", "warmup_steps": 0},
            "checkpoint": {"every_steps": 2},
            "validation": {"data": None},
            "max_failures": 4,
        },
        data={"chunk_rows": 4096},
        scaling={"num_workers": [1, 2], "cpus_per_worker": 2, "resize_seconds": 2},
    )
    with driver(config, nodes.address, tmp_path / "driver.log"):
        until(lambda: last_step(config) >= 5, what="step 5")  # the checkpoint of step 2 is there by then
        nodes.remove_node(second, allow_graceful=False)
        until(lambda: workers_by_step(config)[-1:] == [1], what="a step of one worker")
        third = nodes.add_node(num_cpus=2)
        until(lambda: workers_by_step(config)[-1:] == [2], what="a step of two workers again")
    found = losses(metrics_of(config))

    assert [count for count, _ in itertools.groupby(workers_by_step(config))] == [2, 1, 2]
    assert sorted(found) == list(range(1, len(found) + 1))
    assert found == pytest.approx(alone(config, len(found)), rel=1e-4)
    for node in (first, third):
        nodes.remove_node(node)
