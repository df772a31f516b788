"""Pods are counted by what actors ask for; what fits into none, or into too few, is refused."""

import pytest

from mats_ray.deploy.demand import Demand, Pods, job_pods, pods_for, service_pods
from mats_ray.errors import ConfigError
from tests.unit.deploy.configs import cpu, gpu


@pytest.mark.parametrize(
    ("demands", "expected"),
    [
        ([], Pods(0, 0)),
        ([Demand("a", 8, 1, 1)], Pods(0, 1)),
        ([Demand("a", 9, 1, 1)], Pods(0, 2)),
        ([Demand("a", 8, 44, 1)], Pods(0, 4)),  # two by their CPUs
        ([Demand("a", 1, 1, 0.6), Demand("b", 1, 1, 0.6)], Pods(0, 1)),
        ([Demand("a", 9, 1, 0.6)], Pods(0, 2)),  # a fraction of a GPU does not span two
        ([Demand("a", 16, 1, 0.5)], Pods(0, 1)),
        ([Demand("a", 4, 1, 2)], Pods(0, 1)),
        ([Demand("a", 30, 1)], Pods(1, 0)),
        ([Demand("a", 31, 1)], Pods(2, 0)),
        ([Demand("a", 300, 0.1)], Pods(1, 0)),
        ([Demand("a", 1, 1), Demand("b", 8, 1, 1)], Pods(1, 1)),
        ([Demand("a", 3, 1, apart=True), Demand("b", 1, 1)], Pods(3, 0)),
    ],
)
def test_pods_of_demands(demands, expected):
    assert pods_for(gpu().deploy, "train", demands) == expected  # pods of 30 CPUs; of 88 CPUs and 8 GPUs


@pytest.mark.parametrize(
    ("demand", "expected"),
    [
        (
            Demand("key", 1, 31),
            "one actor of key asks for 31 CPUs and 0 GPUs, a pod of the group cpu has 30 and 0",
        ),
        (
            Demand("key", 1, 1, 9),
            "one actor of key asks for 1 CPUs and 9 GPUs, a pod of the group gpu has 88 and 8",
        ),
        (Demand("key", 241, 1), "needs 9 pods of the group cpu (key=241), deploy.cpu.max_pods is 8"),
    ],
)
def test_what_does_not_fit_is_refused(demand, expected):
    with pytest.raises(ConfigError) as error:
        pods_for(gpu().deploy, "train", [demand])

    assert expected in str(error.value)


def test_gpus_need_a_group_that_has_them():
    with pytest.raises(ConfigError, match="train runs on GPUs"):
        pods_for(cpu().deploy, "train", [Demand("key", 1, 1, 1)])


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("prepare", Pods(1, 0)),
        ("embed", Pods(1, 1)),
        ("memory", Pods(0, 0)),
        ("train", Pods(1, 1)),
        ("caption", Pods(2, 1)),
        ("evaluate", Pods(2, 1)),
    ],
)
def test_pods_of_the_papers_jobs(step, expected):
    config = gpu()

    assert job_pods(config, config.deploy, step) == expected


def test_an_elastic_run_has_room_for_all_its_workers():
    config = gpu("scaling.num_workers=[8, 9]", "train.global_batch_size=72", "train.micro_batch_size=1")

    assert job_pods(config, config.deploy, "train").gpu == 2


def test_the_service_scales_between_its_replicas():
    config = gpu()

    smallest = service_pods(config.serve, config.deploy, smallest=True)
    largest = service_pods(config.serve, config.deploy, smallest=False)

    assert (smallest, largest) == (Pods(2, 1), Pods(8, 2))  # two ingress replicas are on two pods


def test_a_colocated_replica_asks_for_everything_its_parts_do():
    config = gpu(
        "serve.layout=colocated",
        "serve.encoder.autoscaling.max_replicas=2",
        "serve.answerer.autoscaling.max_replicas=2",
        "serve.ingress={cpus: 4, autoscaling: {min_replicas: 1, max_replicas: 9}}",
    )

    assert service_pods(config.serve, config.deploy, smallest=False) == Pods(0, 2)
