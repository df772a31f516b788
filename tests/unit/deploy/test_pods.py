"""Pods have what they need to start: image, configuration, data, keys; and run as nobody special."""

import importlib.metadata
import re

import pytest

from mats_ray.deploy.pods import RAY_VERSION
from mats_ray.deploy.render import render
from tests.unit.deploy.configs import ROOT, cpu, flat, gpu, named
from tests.unit.deploy.validating import as_cluster


def templates(resource):
    spec = as_cluster(resource)["spec"]
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


@pytest.fixture(params=[cpu, gpu], ids=["cpu", "gpu"])
def every_pod(request):
    return [
        pod
        for one in flat(render(request.param()))
        if one["apiVersion"] == "ray.io/v1"
        for pod in templates(one)
    ]


def test_the_version_of_ray_is_the_locked_one():
    locked = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE).group(1)

    assert locked == importlib.metadata.version("ray") == RAY_VERSION


def test_no_pod_runs_as_root_or_gains_rights(every_pod):
    for pod in every_pod:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 1000
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize(("queue", "scaled"), [("null", True), ("mats", False)])
def test_only_rays_autoscaler_has_a_token_of_kubernetes(queue, scaled):
    for one in flat(render(gpu(f"deploy.queue={queue}"))):
        if one["apiVersion"] == "ray.io/v1":
            head, *workers = [pod["automountServiceAccountToken"] for pod in templates(one)]
            assert head == (scaled or one["kind"] != "RayJob")
            assert not any(workers)


def test_every_container_is_bounded(every_pod):
    for pod in every_pod:
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            sizes = container["resources"]
            assert sizes["requests"] == sizes["limits"]
            assert {"cpu", "memory"} <= sizes["limits"].keys()


def test_pods_that_read_a_model_of_a_bucket_fetch_it_first():
    folders = render(gpu())

    fetching = {
        one["metadata"]["name"]
        for one in flat(folders)
        if one["apiVersion"] == "ray.io/v1" and all("initContainers" in pod for pod in templates(one))
    }

    assert fetching == {"mats-caption", "mats-evaluate", "mats-serve"}
    pod = templates(named(folders, "RayService", "mats-serve"))[0]
    assert pod["initContainers"][0]["command"] == [
        "mats",
        "deploy",
        "fetch",
        "s3://example-mats/run/model",
        "--out",
        "/var/mats/model",
    ]
    assert {"name": "model", "mountPath": "/var/mats"} in pod["containers"][0]["volumeMounts"]


def test_kubernetes_finds_no_variable_in_the_path_of_a_model():
    folders = render(gpu("output_dir=s3://example-mats/$(HOME)"))

    pod = templates(named(folders, "RayService", "mats-serve"))[0]
    assert pod["initContainers"][0]["command"][3] == "s3://example-mats/$$(HOME)/model"  # $$ is a $ there


def test_pods_on_a_volume_fetch_nothing():
    clusters = [one for one in flat(render(cpu())) if "ray.io" in one["apiVersion"]]

    assert not [pod for one in clusters for pod in templates(one) if "initContainers" in pod]


def test_only_the_service_has_its_keys():
    for one in flat(render(gpu())):
        if "ray.io" not in one["apiVersion"]:
            continue
        names = {env["name"] for pod in templates(one) for env in pod["containers"][0]["env"]}
        assert ("MATS_API_KEYS" in names) == (one["kind"] == "RayService")


@pytest.mark.parametrize(
    ("access", "secrets", "annotated"),
    [
        (["role_arn=null", "secret=my-s3"], {"mats-env", "my-s3"}, False),
        (["role_arn=arn:aws:iam::000000000000:role/r"], {"mats-env"}, True),
    ],
)
def test_access_to_a_bucket_is_a_secret_or_a_role(access, secrets, annotated):
    folders = render(gpu("deploy.s3.region=eu-west-1", *(f"deploy.s3.{one}" for one in access)))

    pod = templates(named(folders, "RayJob", "mats-train"))[0]
    given = {one["secretRef"]["name"] for one in pod["containers"][0]["envFrom"]}
    assert given == secrets
    assert {"name": "AWS_REGION", "value": "eu-west-1"} in pod["containers"][0]["env"]
    assert ("annotations" in named(folders, "ServiceAccount", "mats")["metadata"]) == annotated


def test_a_server_of_ones_own_is_named():
    folders = render(gpu("deploy.s3.endpoint_url=http://minio:9000"))

    pod = templates(named(folders, "RayJob", "mats-train"))[-1]
    assert {"name": "AWS_ENDPOINT_URL", "value": "http://minio:9000"} in pod["containers"][0]["env"]


def test_gpu_pods_find_their_nodes():
    pod = templates(named(render(gpu()), "RayJob", "mats-train"))[-1]

    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
