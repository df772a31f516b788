"""Section ``deploy``: names as Kubernetes takes them, sizes within bounds, one kind of access."""

import pytest

from mats_ray.config.base import validate
from mats_ray.config.deploy import DeployConfig
from mats_ray.errors import ConfigError

IMAGE = "registry.example.com/mats-ray:0.1.0"


def load(**changes):
    return validate(DeployConfig, {"image": IMAGE} | changes, where="deploy")


@pytest.mark.parametrize(
    "image",
    [IMAGE, "mats:1", "localhost:5000/a/mats_ray:v1.2-cu130", "r.example.com/m@sha256:" + "0" * 64],
)
def test_an_image_has_a_version(image):
    assert load(image=image).image == image


@pytest.mark.parametrize(
    "image", ["mats", "mats:latest", "r.example.com/mats", "mats:", "Mats:1", "m@sha256:12", "a b:1"]
)
def test_an_image_without_one_is_refused(image):
    with pytest.raises(ConfigError, match="image"):
        load(image=image)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": "Mats"}, "name = 'Mats' is not allowed"),
        ({"name": "m" * 41}, "is not allowed"),
        (
            {"cpu": {"cpus": 0, "memory_gb": 1, "max_pods": 1}},
            "cpu.cpus = 0 is not allowed: must be an integer from 1 to 1024",
        ),
        ({"cpu": {"cpus": 1, "memory_gb": 1, "max_pods": 10**9}}, "must be an integer from 1 to 10000"),
        (
            {"cpu": {"cpus": 1, "memory_gb": 1, "min_pods": 3, "max_pods": 2}},
            "min_pods=3 is more than max_pods=2",
        ),
        ({"gpu": {"cpus": 1, "memory_gb": 1, "max_pods": 1}}, "gpu.gpus is missing"),
        ({"s3": {"region": "us-west-2"}}, "access is by role_arn or by secret: give one of the two"),
        (
            {"s3": {"region": "us-west-2", "secret": "a", "role_arn": "arn:aws:iam::000000000000:role/r"}},
            "give one of the two",
        ),
        (
            {"s3": {"region": "us-west-2", "secret": "a", "endpoint_url": "http://u:p@h"}},
            "s3.endpoint_url = 'http://u:p@h' is not allowed",
        ),
        ({"volume": {"path": "data"}}, "volume.path = 'data' is not allowed"),
        ({"volume": {"path": "/"}}, "volume.path = '/' is not allowed"),
        ({"queuue": "a"}, "unknown key queuue = 'a'; allowed here: caption, cpu, evaluate"),
        ({"head": {"cpus": 1, "memory_gb": 1, "node_selector": {"a b": "c"}}}, "is not allowed"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_here(changes, expected):
    with pytest.raises(ConfigError) as error:
        load(**changes)

    assert expected in str(error.value)


def test_groups_are_listed_with_their_names():
    both = load(gpu={"cpus": 8, "memory_gb": 64, "gpus": 1, "max_pods": 1})

    assert [name for name, _ in load().worker_groups] == ["cpu"]
    assert [name for name, _ in both.worker_groups] == ["cpu", "gpu"]
