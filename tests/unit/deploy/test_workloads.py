"""Jobs, service and their configuration follow the run's."""

import shlex
from pathlib import Path

import pytest
import yaml

from mats_ray.deploy.render import render
from mats_ray.deploy.workloads import serve_config
from tests.unit.deploy.configs import ROOT, cpu, gpu, named
from tests.unit.deploy.validating import arguments, as_cluster


def test_the_service_is_that_of_the_repository_but_for_what_pods_change():
    shipped = yaml.safe_load((ROOT / "serve/config.yaml").read_text())
    ours = serve_config(cpu(), model="/model")

    assert ours.keys() == shipped.keys()
    assert ours["http_options"] == shipped["http_options"] | {"host": "0.0.0.0"}
    assert ours["logging_config"] == shipped["logging_config"] | {"encoding": "JSON"}
    (app,), (theirs,) = ours["applications"], shipped["applications"]
    assert {**app, "args": 0} == {**theirs, "args": 0, "deployments": app["deployments"]}
    assert app["args"].keys() <= theirs["args"].keys()


def test_serves_limit_is_above_the_services_own():
    config = cpu("serve.request_timeout_seconds=90", "serve.stream_timeout_seconds=1000")

    assert serve_config(config, model="/m")["http_options"]["request_timeout_s"] > 1090


@pytest.mark.parametrize(("replicas", "apart"), [(1, False), (2, True)])
def test_two_ingress_replicas_are_on_two_pods(replicas, apart):
    config = cpu(f"serve.ingress.autoscaling.min_replicas={replicas}")

    (application,) = serve_config(config, model="/m")["applications"]

    assert ("deployments" in application) == apart


def test_jobs_in_a_queue_have_a_fixed_size_and_wait_for_it():
    for step in ("prepare", "embed", "memory", "train", "caption", "evaluate"):
        job = named(render(gpu()), "RayJob", f"mats-{step}")

        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "mats"
        assert job["spec"]["suspend"]
        spec = as_cluster(job)["spec"]
        assert not spec["enableInTreeAutoscaling"]
        for group in spec["workerGroupSpecs"]:
            assert group["minReplicas"] == group["replicas"] == group["maxReplicas"] > 0


def test_jobs_without_a_queue_are_scaled_from_nothing():
    job = named(render(gpu("deploy.queue=null")), "RayJob", "mats-caption")
    spec = as_cluster(job)["spec"]

    assert spec["enableInTreeAutoscaling"]
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert "suspend" not in job["spec"]
    assert [
        (one["groupName"], one["minReplicas"], one["maxReplicas"]) for one in spec["workerGroupSpecs"]
    ] == [
        ("cpu", 0, 8),
        ("gpu", 0, 1),
    ]


def test_only_what_lives_long_keeps_its_state_in_redis():
    folders = render(gpu())
    keeping = {
        one["metadata"]["name"]: "gcsFaultToleranceOptions" in as_cluster(one)["spec"]
        for resources in folders.values()
        for one in resources.values()
        if one["apiVersion"] == "ray.io/v1"
    }

    assert {name for name, keeps in keeping.items() if keeps} == {"mats", "mats-serve"}


@pytest.mark.parametrize(
    ("gateway", "kind"), [("istio", "NewClusterWithIncrementalUpgrade"), ("null", "NewCluster")]
)
def test_an_upgrade_is_step_by_step_where_there_is_a_gateway(gateway, kind):
    service = named(render(gpu(f"deploy.gateway_class={gateway}")), "RayService", "mats-serve")

    assert service["spec"]["upgradeStrategy"]["type"] == kind


def test_a_question_that_looks_like_an_option_stays_a_question():
    questions = '["Is there a dog?", "--out=/etc", "a; rm -rf /", "$(id) `id`"]'
    job = named(render(cpu(f"deploy.caption.questions={questions}")), "RayJob", "mats-caption")

    parsed = arguments(job)

    assert parsed.questions == ["Is there a dog?", "--out=/etc", "a; rm -rf /", "$(id) `id`"]
    assert parsed.out == "/mnt/mats/captions"
    assert parsed.model == "/mnt/mats/toy/model"
    assert shlex.split(job["spec"]["entrypoint"])[1] == "/home/ray/mats/jobs/caption.py"


@pytest.mark.parametrize("change", ["model.bridge=none", "santa.enabled=false"])
def test_without_a_bridge_there_is_no_memory_to_build(change):
    assert "memory.yaml" in render(cpu())["jobs"]
    assert "memory.yaml" not in render(cpu(change))["jobs"]


def test_jobs_without_work_are_not_written():
    config = cpu(
        "data.prepare.sources=[]", "deploy.caption=null", "deploy.evaluate=null", "data.embed=online"
    )

    assert list(render(config)["jobs"]) == ["train.yaml"]


def test_code_in_pods_is_where_the_dockerfile_puts_it():
    lines = (ROOT / "Dockerfile").read_text()

    for folder in ("jobs", "serve"):
        assert f"/home/ray/mats/{folder}/" in lines
        assert (Path(ROOT) / folder).is_dir()
