"""Each rule of the operator is broken once, and found."""

import copy

import pytest

from mats_ray.deploy.render import render
from mats_ray.deploy.rules import broken_rules
from tests.unit.deploy.configs import cpu, flat, gpu, named

HEAD = "headGroupSpec.template.spec"
CASES = [
    ("RayCluster", "metadata.name", "m" * 54, "has more than 53 characters"),
    ("RayJob", "metadata.name", "m" * 48, "has more than 47 characters"),
    ("RayService", "metadata.name", "m" * 48, "has more than 47 characters"),
    ("RayCluster", "metadata.name", "1mats", "is no DNS-1035 label"),
    ("RayCluster", "spec.headGroupSpec.rayStartParams.num-cpu", "0", "rayStartParams has 'num-cpu'"),
    (
        "RayCluster",
        "spec.headGroupSpec.resources",
        {"CPU": "1"},
        "sizes are in rayStartParams and in resources",
    ),
    ("RayCluster", f"spec.{HEAD}.containers", [], "group head has no container"),
    (
        "RayCluster",
        "spec.workerGroupSpecs.0.maxReplicas",
        None,
        "group cpu needs minReplicas and maxReplicas",
    ),
    ("RayCluster", "spec.workerGroupSpecs.0.replicas", 99, "replicas are not from"),
    ("RayCluster", "spec.workerGroupSpecs.0.groupName", "gpu", "two groups have one name"),
    ("RayCluster", "spec.workerGroupSpecs.0.suspend", True, "cannot be suspended while Ray scales it"),
    ("RayCluster", "spec.enableInTreeAutoscaling", False, "autoscaler v2 needs enableInTreeAutoscaling"),
    (
        "RayCluster",
        f"spec.{HEAD}.restartPolicy",
        "Always",
        "group head: autoscaler v2 needs restartPolicy Never",
    ),
    (
        "RayCluster",
        "spec.workerGroupSpecs.0.template.spec.restartPolicy",
        "OnFailure",
        "group cpu: autoscaler v2",
    ),
    (
        "RayCluster",
        f"spec.{HEAD}.containers.0.env.0.name",
        "RAY_enable_autoscaler_v2",
        "is in autoscalerOptions and",
    ),
    ("RayCluster", f"spec.{HEAD}.containers.0.env.0.name", "REDIS_PASSWORD", "REDIS_PASSWORD is set by hand"),
    ("RayCluster", "spec.headGroupSpec.rayStartParams.redis-password", "x", "redis-password is set by hand"),
    ("RayCluster", "spec.gcsFaultToleranceOptions.redisAddress", "", "needs redisAddress"),
    ("RayCluster", "spec.authOptions.mode", "disabled", "authOptions.mode is not token"),
    ("RayCluster", "spec.rayVersion", "2.51.0", "a token needs rayVersion 2.52 or newer, it is '2.51.0'"),
    ("RayCluster", "spec.rayVersion", "", "a token needs rayVersion 2.52"),
    ("RayJob", "spec.entrypoint", "python x.py --ask='$(id)'", "has more than plain words"),
    ("RayJob", "spec.entrypoint", "python x.py; id", "has more than plain words"),
    ("RayJob", "spec.entrypoint", "python x.py\nid", "has more than plain words"),
    ("PodDisruptionBudget", "spec.maxUnavailable", 1, "maxUnavailable is not for Ray pods"),
    ("PodDisruptionBudget", "spec.minAvailable", "50%", "is a whole number, and not '50%'"),
    ("PodDisruptionBudget", "spec.minAvailable", None, "is a whole number, and not None"),
    ("RayJob", "spec.rayClusterSpec", None, "one of rayClusterSpec and clusterSelector"),
    (
        "RayJob",
        "spec.clusterSelector",
        {"ray.io/cluster": "mats"},
        "one of rayClusterSpec and clusterSelector",
    ),
    (
        "RayJob",
        "spec.shutdownAfterJobFinishes",
        False,
        "a job that can be suspended needs a cluster of its own",
    ),
    (
        "RayJob",
        "spec.shutdownAfterJobFinishes",
        False,
        "ttlSecondsAfterFinished needs shutdownAfterJobFinishes",
    ),
    ("RayJob", "spec.shutdownAfterJobFinishes", False, "Kueue needs shutdownAfterJobFinishes"),
    ("RayJob", "spec.submissionMode", "InteractiveMode", "backoffLimit needs a new cluster"),
    ("RayJob", "spec.backoffLimit", -1, "backoffLimit is -1"),
    ("RayJob", "spec.preRunningDeadlineSeconds", 0, "preRunningDeadlineSeconds is 0"),
    ("RayJob", "spec.rayClusterSpec.enableInTreeAutoscaling", True, "Kueue reserves a fixed size"),
    ("RayJob", "spec.rayClusterSpec.authOptions", None, "authOptions.mode is not token"),
    ("RayService", "spec.upgradeStrategy.type", "Rolling", "upgradeStrategy.type 'Rolling' is none of"),
    ("RayService", "spec.upgradeStrategy.clusterUpgradeOptions", None, "needs clusterUpgradeOptions"),
    (
        "RayService",
        "spec.upgradeStrategy.clusterUpgradeOptions.stepSizePercent",
        101,
        "stepSizePercent is 101",
    ),
    (
        "RayService",
        "spec.upgradeStrategy.clusterUpgradeOptions.intervalSeconds",
        0,
        "intervalSeconds must be above 0",
    ),
    (
        "RayService",
        "spec.upgradeStrategy.clusterUpgradeOptions.gatewayClassName",
        "",
        "needs gatewayClassName",
    ),
    (
        "RayService",
        "spec.rayClusterConfig.enableInTreeAutoscaling",
        False,
        "an incremental upgrade needs enableInTree",
    ),
    ("RayService", "spec.rayClusterConfig.authOptions.enableK8sTokenAuth", True, "is not for a RayService"),
]


@pytest.mark.parametrize(("kind", "path", "value", "expected"), CASES)
def test_a_broken_rule_is_named(kind, path, value, expected):
    names = {"RayCluster": "mats", "RayJob": "mats-train"}
    resource = copy.deepcopy(named(render(gpu()), kind, names.get(kind, "mats-serve")))
    tree = resource
    *parents, last = path.split(".")
    for part in parents:
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    if value is None:
        tree.pop(last, None)
    else:
        tree[last] = value

    assert any(expected in line for line in broken_rules(resource))


def test_eight_groups_are_too_many_for_a_queue():
    job = copy.deepcopy(named(render(gpu()), "RayJob", "mats-train"))
    (group, *_) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"] = [{**group, "groupName": f"g{n}"} for n in range(8)]

    assert broken_rules(job) == ["Kueue takes 7 groups of workers"]


@pytest.mark.parametrize("config", [cpu, gpu])
def test_nothing_that_is_rendered_breaks_a_rule(config):
    assert [broken_rules(resource) for resource in flat(render(config())) if broken_rules(resource)] == []
