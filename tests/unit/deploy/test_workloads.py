"""Jobs, service and their configuration follow the run's."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mats_ray.deploy.kustomize import to_yaml
from mats_ray.deploy.render import render
from mats_ray.deploy.rules import broken_rules
from mats_ray.deploy.workloads import ARGUMENTS_FILE, config_map, ray_jobs, serve_config
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


TOY = cpu()


def captioning(questions):
    """Return the captioning job with some questions, and its file of the ConfigMap as it is read again."""
    caption = TOY.deploy.caption.model_copy(update={"questions": tuple(questions)})
    deploy = TOY.deploy.model_copy(update={"caption": caption, "evaluate": None})
    config = config_map(TOY, deploy)
    config["data"] = {ARGUMENTS_FILE: config["data"][ARGUMENTS_FILE]}
    return ray_jobs(TOY, deploy)["caption"], yaml.safe_load(to_yaml(config))


NASTY = [
    "--out=/etc",
    "a;b",
    "$(id) `id` $$(HOME) $HOME",
    "it's",
    '"',
    "a\\ b\\\\",
    "a\nb",
    "*",
    "~",
    "{a,b}",
    "#",
    "",
]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]))))
def test_no_question_is_in_an_entrypoint_and_each_reaches_the_job_as_it_is(questions):
    job, config = captioning(questions)

    given = arguments(job, config)
    assert given.questions == questions
    assert (given.out, given.model) == ("/mnt/mats/captions", "/mnt/mats/toy/model")
    assert job["spec"]["entrypoint"] == captioning([])[0]["spec"]["entrypoint"]
    assert broken_rules(job) == []


@pytest.mark.parametrize("joined", [shlex.join, subprocess.list2cmdline], ids=["Ray 2.60", "Ray before"])
@pytest.mark.parametrize("config", [cpu, gpu])
def test_an_entrypoint_passes_all_shells_unchanged(config, joined, tmp_path):
    stand_in = tmp_path / "python"
    stand_in.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    stand_in.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for job in render(config())["jobs"].values():
        entrypoint = job["spec"]["entrypoint"]
        words = subprocess.run(
            ["bash", "-c", f"printf '%s\\n' {entrypoint}"], capture_output=True, text=True, check=True
        ).stdout.splitlines()

        supervised = subprocess.run(
            joined(words), shell=True, env=path, capture_output=True, text=True, check=True
        )

        assert ["python", *supervised.stdout.splitlines()] == entrypoint.split(" ")


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
