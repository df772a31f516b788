"""The configuration of the deployments; no cluster."""

import subprocess
import sys

import pytest

from mats_ray.config.serve import AutoscalingConfig, DeploymentConfig, EncoderDeploymentConfig, ServeConfig
from mats_ray.serving.on_ray.deployments import build_app
from mats_ray.serving.service import MAX_CONCURRENT_WINDOWS


def test_replicas_hold_several_batches_and_scale_as_configured():
    scaling = AutoscalingConfig(min_replicas=0, max_replicas=7, target_ongoing_requests=3)
    config = ServeConfig(encoder=EncoderDeploymentConfig(max_batch_size=10, gpus=0.5, autoscaling=scaling))

    encoder = parts(build_app(config))["Encoder"]

    assert encoder.max_ongoing_requests >= 40
    assert encoder._deployment_config.autoscaling_config.max_replicas == 7
    assert encoder.ray_actor_options.items() >= {"num_cpus": 0.5, "num_gpus": 0.5}.items()


def test_no_call_of_an_admitted_request_is_refused_by_a_queue():
    deployments = parts(build_app(ServeConfig(max_requests_in_flight=5)))

    for name in ("Encoder", "Answerer"):
        assert deployments[name]._deployment_config.max_queued_requests >= 5 * (MAX_CONCURRENT_WINDOWS + 1)


@pytest.mark.parametrize("layout", ["disaggregated", "colocated"])
def test_a_roll_out_waits_for_the_new_replica_and_for_the_end_of_streams(layout):
    for deployment in parts(build_app(ServeConfig(layout=layout, stream_timeout_seconds=500))).values():
        config = deployment._deployment_config
        assert config.max_surge_percent == 100
        assert config.graceful_shutdown_timeout_s >= 500


def test_scaling_is_as_configured():
    scaling = AutoscalingConfig(min_replicas=0, upscale_delay_seconds=1, downscale_delay_seconds=2)

    answerer = parts(build_app(ServeConfig(answerer=DeploymentConfig(autoscaling=scaling))))["Answerer"]

    made = answerer._deployment_config.autoscaling_config
    assert (made.min_replicas, made.upscale_delay_s, made.downscale_delay_s) == (0, 1, 2)


def test_a_colocated_replica_has_the_resources_of_all_parts_and_the_ingress_scales_it():
    config = ServeConfig(
        layout="colocated",
        ingress={"cpus": 1, "autoscaling": {"min_replicas": 2, "max_replicas": 4}},
        encoder={"cpus": 2, "gpus": 0.25},
        answerer={"cpus": 3, "gpus": 0.5},
    )

    (ingress,) = parts(build_app(config)).values()

    assert ingress.name == "Ingress"
    assert ingress.ray_actor_options.items() >= {"num_cpus": 6, "num_gpus": 0.75}.items()
    scaling = ingress._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 4)


def test_without_a_layout_each_part_is_a_deployment():
    assert set(parts(build_app(ServeConfig()))) == {"Ingress", "Encoder", "Answerer"}


def test_the_model_is_found_from_any_working_directory(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)

    assert parts(build_app(ServeConfig(model="model")))["Encoder"].init_args[0].model == str(
        tmp_path / "model"
    )
    assert parts(build_app(ServeConfig(model="s3ish/m")))["Encoder"].init_args[0].model == "s3ish/m"


def test_the_ingress_imports_no_torch():
    code = "import sys, mats_ray.serving.on_ray.deployments; print('torch' in sys.modules)"

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert out.strip() == "False"


def parts(app):
    """Deployments of an application by name."""
    ingress = app._bound_deployment
    inner = [arg._bound_deployment for arg in ingress.init_args if hasattr(arg, "_bound_deployment")]
    return {deployment.name: deployment for deployment in [ingress, *inner]}
