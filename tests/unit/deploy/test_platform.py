"""What may talk to whom, what is watched, and what a drain of nodes leaves."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from mats_ray.deploy.render import render
from tests.unit.deploy.configs import ROOT, cpu, flat, gpu, named
from tests.unit.deploy.validating import as_cluster, pod_labels, selects


def test_ray_and_redis_are_closed_to_other_namespaces_but_for_http_and_metrics():
    policy = named(render(cpu()), "NetworkPolicy", "mats-ray")["spec"]

    open_to_all = [rule for rule in policy["ingress"] if "from" not in rule]
    assert open_to_all == [{"ports": [{"protocol": "TCP", "port": 8000}]}]
    outside = {
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]: [
            one["port"] for one in rule["ports"]
        ]
        for rule in policy["ingress"]
        for peer in rule.get("from", [])
        if "namespaceSelector" in peer
    }
    assert outside == {"kuberay-operator": [8265, 8000], "monitoring": [8080]}


def test_pods_cannot_take_the_nodes_credentials():
    policy = named(render(cpu()), "NetworkPolicy", "mats-ray")["spec"]

    assert policy["egress"][1]["to"] == [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}},
        {"ipBlock": {"cidr": "::/0", "except": ["fd00:ec2::254/128"]}},
    ]


def test_every_ray_pod_is_under_the_policy_and_monitored_and_redis_is_not():
    folders = render(gpu())
    pods = list(pod_labels(flat(folders)))
    ray = [labels for labels in pods if "ray.io/node-type" in labels]
    redis = [labels for labels in pods if labels not in ray]

    assert len(ray) > 10
    assert len(redis) == 1
    for kind, key in (("NetworkPolicy", "podSelector"), ("PodMonitor", "selector")):
        selector = named(folders, kind, "mats-ray")["spec"][key]
        assert all(selects(selector, labels) for labels in ray)
        assert not selects(selector, redis[0])


def test_only_heads_and_the_operators_clean_up_reach_redis():
    policy = named(render(cpu()), "NetworkPolicy", "mats-redis")["spec"]

    roles = [peer["podSelector"]["matchLabels"]["ray.io/node-type"] for peer in policy["ingress"][0]["from"]]
    assert roles == ["head", "redis-cleanup"]
    assert policy["egress"] == []


def budget(folders, name):
    return named(folders, "PodDisruptionBudget", f"mats-{name}")["spec"]


@pytest.mark.parametrize("replicas", [1, 2, 5])
@pytest.mark.parametrize("config", [cpu, gpu])
def test_a_drain_takes_one_pod_of_the_smallest_service_at_a_time(config, replicas):
    folders = render(config(f"serve.ingress.autoscaling={{min_replicas: {replicas}, max_replicas: 5}}",
                            "deploy.cpu.max_pods=8"))  # fmt: skip
    groups = as_cluster(named(folders, "RayService", "mats-serve"))["spec"]["workerGroupSpecs"]
    smallest = 1 + sum(group["minReplicas"] for group in groups)

    assert budget(folders, "serve")["minAvailable"] == smallest - 1


def test_a_drain_waits_for_the_heads_of_all_jobs():
    folders = render(gpu())
    jobs = budget(folders, "jobs")

    held = [labels for labels in pod_labels(flat(folders)) if selects(jobs["selector"], labels)]
    assert len(held) <= jobs["minAvailable"]
    assert {labels["step"] for labels in held} == {
        "prepare",
        "embed",
        "memory",
        "train",
        "caption",
        "evaluate",
    }
    assert {labels["ray.io/node-type"] for labels in held} == {"head"}


def test_a_claim_is_made_where_there_is_a_volume():
    claim = named(render(gpu()), "PersistentVolumeClaim", "mats-data")["spec"]

    assert claim["accessModes"] == ["ReadWriteMany"]
    assert claim["storageClassName"] == "efs"
    without = gpu("deploy.volume=null", "model.clap.ref=owner/clap")
    assert "PersistentVolumeClaim" not in {one["kind"] for one in flat(render(without))}


def test_the_monitor_carries_the_labels_that_prometheus_looks_for():
    labels = "deploy.monitoring_labels={release: kube-prometheus-stack}"

    for config, more in ((cpu(), {}), (cpu(labels), {"release": "kube-prometheus-stack"})):
        monitor = named(render(config), "PodMonitor", "mats-ray")
        assert monitor["metadata"]["labels"] == {"app": "mats", "step": "platform", **more}


@pytest.fixture
def redis(tmp_path):
    """Start the container's command with stand-ins for the programs and folders of its image."""
    pod = named(render(cpu()), "StatefulSet", "mats-redis")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    stand_in = tmp_path / "redis-server"
    stand_in.write_text(f'#!/bin/sh\necho "$$ $*" > {tmp_path}/started\nexec sleep 60\n')
    stand_in.chmod(0o755)
    script = container["command"][-1].replace("/run/redis", str(tmp_path))
    path = f"{tmp_path}:{os.environ['PATH']}"
    process = subprocess.Popen(["sh", "-c", script], env={"PATH": path, "REDIS_PASSWORD": "very secret"})
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists() or not (tmp_path / "started").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield pod, process, tmp_path
    process.kill()
    process.wait()


def test_redis_is_the_process_that_is_told_to_stop(redis):
    _, process, folder = redis

    assert (folder / "started").read_text() == f"{process.pid} {folder}/redis.conf\n"
    process.terminate()
    assert process.wait(timeout=10) == -15


def test_the_password_of_redis_is_in_a_file_in_memory_that_only_redis_reads(redis):
    pod, _, folder = redis
    (container,) = pod["containers"]
    file = folder / "redis.conf"

    assert file.read_text() == "requirepass very secret\nappendonly yes\ndir /data\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert {"name": "run", "mountPath": "/run/redis"} in container["volumeMounts"]
    (run,) = pod["volumes"]
    assert (run["name"], run["emptyDir"]["medium"]) == ("run", "Memory")
    commands = [*container["command"], *container["readinessProbe"]["exec"]["command"]]
    assert not any(re.search(r"--requirepass|-a ", word) for word in commands)


def test_the_documented_command_makes_a_rule_of_our_alerts():
    page = (ROOT / "docs" / "deployment.md").read_text()
    command = re.search(r"^(\{ printf .*?)\| kubectl apply", page, re.M | re.S)[1]
    alerts = yaml.safe_load(Path(ROOT / "deploy/prometheus/alerts.yaml").read_text())

    made = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)

    rule = yaml.safe_load(made.stdout)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["metadata"]["namespace"] == "mats"
    assert rule["spec"] == alerts
