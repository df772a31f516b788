"""Section ``serve``: bounds and sizes are checked."""

import pytest

from mats_ray.config.serve import AutoscalingConfig, ServeConfig
from tests.unit.config.refusals import refusal


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (AutoscalingConfig, "min_replicas=3", "min_replicas=3 is more than max_replicas=2"),
        (
            ServeConfig,
            "encoder.autoscaling.min_replicas=9",
            "encoder.autoscaling: min_replicas=9 is more than",
        ),
        (ServeConfig, "ingress.cpu=1", "unknown key ingress.cpu = 1; allowed here: autoscaling, cpus, gpus"),
        (ServeConfig, "generation.profile=x", "generation.profile = 'x' is not allowed: input should be"),
        (
            ServeConfig,
            "request_timeout_seconds=0",
            "request_timeout_seconds = 0 is not allowed: input should",
        ),
        (
            ServeConfig,
            "layout=together",
            "layout = 'together' is not allowed: input should be 'disaggregated'",
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(kind, change, message):
    assert refusal(kind, change).startswith(message)


def test_a_colocated_process_uses_one_gpu():
    parts = {"encoder": {"gpus": 0.25}, "answerer": {"gpus": 1}}

    with pytest.raises(
        ValueError, match=r"encoder\.gpus=0\.25 and answerer\.gpus=1 in one process, which uses"
    ):
        ServeConfig(layout="colocated", **parts)
    assert ServeConfig(layout="disaggregated", **parts).answerer.gpus == 1
    assert (
        ServeConfig(layout="colocated", encoder={"gpus": 0.25}, answerer={"gpus": 0.75}).encoder.gpus == 0.25
    )


@pytest.mark.parametrize("gpus", [-0.5, 2])
def test_a_replica_has_a_share_of_one_gpu(gpus):
    with pytest.raises(ValueError, match="must be a number from 0 to 1"):
        ServeConfig(answerer={"gpus": gpus})


@pytest.mark.parametrize("part", ["encoder", "answerer"])
def test_a_colocated_part_has_no_autoscaling_of_its_own(part):
    scaled = {part: {"autoscaling": {"max_replicas": 3}}}

    with pytest.raises(ValueError, match=f"layout=colocated has no replicas of {part} alone: leave {part}"):
        ServeConfig(layout="colocated", **scaled)
    assert ServeConfig(layout="colocated", ingress=scaled[part], **{part: {"autoscaling": {}}})


@pytest.mark.parametrize(
    ("settings", "cores", "layout"),
    [
        ({}, 2, "colocated"),
        ({}, 3, "colocated"),
        ({}, 4, "disaggregated"),
        ({"layout": "colocated"}, 64, "colocated"),
        ({"layout": "disaggregated"}, 1, "disaggregated"),
        ({"answerer": {"autoscaling": {"min_replicas": 0}}}, 2, "disaggregated"),
        ({"encoder": {"gpus": 0.5}}, 2, "disaggregated"),
        ({"ingress": {"autoscaling": {"max_replicas": 2}}}, 2, "colocated"),
    ],
)
def test_a_machine_of_few_cores_colocates_what_is_not_set_apart(settings, cores, layout):
    assert ServeConfig(**settings).with_layout(cores=cores).layout == layout
