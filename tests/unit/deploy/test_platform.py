"""What may talk to whom, what is watched, and what a drain of nodes leaves."""

from mats_ray.deploy.render import render
from tests.unit.deploy.configs import cpu, flat, gpu, named
from tests.unit.deploy.validating import pod_labels, selects


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

    assert {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}} in policy["egress"][1]["to"]


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


def test_a_drain_waits_for_jobs_and_takes_one_pod_of_the_service_at_a_time():
    folders = render(gpu())
    jobs, serve = (
        named(folders, "PodDisruptionBudget", f"mats-{name}")["spec"] for name in ("jobs", "serve")
    )

    assert (jobs["maxUnavailable"], serve["maxUnavailable"]) == (0, 1)
    held = [labels for labels in pod_labels(flat(folders)) if selects(jobs["selector"], labels)]
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


def test_the_password_of_redis_is_in_no_command_line():
    pod = named(render(cpu()), "StatefulSet", "mats-redis")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert "exec redis-server -" in container["command"][-1]
    assert "--requirepass" not in container["command"][-1]
