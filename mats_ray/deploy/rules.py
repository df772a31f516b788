"""Rules of the KubeRay operator (v1.7), of Kueue and of Kubernetes beyond the schema of their resources.

A resource that breaks one is accepted by Kubernetes and stays idle, with a line in the operator's log; from
``ray-operator/controllers/ray/utils/validation.go``. Two are not the operator's: what a PodDisruptionBudget
can say of Ray pods, and that no shell finds anything in an entrypoint.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Resource = Mapping[str, Any]

MAX_NAME = {"RayCluster": 53, "RayJob": 47, "RayService": 47}
"""Longest names: the operator appends to them."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
MAX_GROUPS_IN_QUEUE = 7
"""A workload of Kueue has eight sets of pods, one of them the head's."""
START_PARAMETERS = {"num-cpus", "num-gpus", "memory", "resources", "dashboard-host", "object-store-memory"}
"""Options of ``ray start`` that are set here; the operator passes on any word."""
SIZES = {"num-cpus", "num-gpus", "memory", "resources"}
UPGRADES = {"NewCluster", "NewClusterWithIncrementalUpgrade", "None"}
LEAST = {
    "ttlSecondsAfterFinished": 0,
    "backoffLimit": 0,
    "activeDeadlineSeconds": 1,
    "preRunningDeadlineSeconds": 1,
}
"""Least values of numbers of a RayJob."""
TOKEN_SINCE = (2, 52)
"""First version of Ray with tokens."""
PLAIN_WORDS = re.compile(r"[A-Za-z0-9_./-]+( [A-Za-z0-9_./-]+)*")
"""An entrypoint in which none of its readers (``run_job``) finds anything to replace."""
SET_BY_OPERATOR = {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS", "REDIS_USERNAME"}
"""Variables of the head that gcsFaultToleranceOptions sets."""


def broken_rules(resource: Resource) -> list[str]:
    """Return a line for every rule that a resource breaks; kinds that are not in the table have none."""
    check = _CHECKS.get(resource["kind"])
    return [] if check is None else [*check(resource)]


def _name_rules(resource: Resource) -> Iterator[str]:
    kind, name = resource["kind"], resource["metadata"]["name"]
    if len(name) > MAX_NAME[kind]:
        yield f"the name {name!r} has more than {MAX_NAME[kind]} characters"
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"the name {name!r} is no DNS-1035 label"


def _cluster_rules(resource: Resource) -> Iterator[str]:
    yield from _name_rules(resource)
    yield from _spec_rules(resource["spec"])


def _spec_rules(spec: Resource) -> Iterator[str]:
    workers = spec.get("workerGroupSpecs", [])
    groups = {"head": spec["headGroupSpec"], **{one["groupName"]: one for one in workers}}
    if len(groups) < 1 + len(workers):
        yield "two groups have one name"
    for name, group in groups.items():
        yield from _group_rules(name, group)
    yield from _worker_rules(spec, workers)
    yield from _autoscaler_rules(spec, groups)
    yield from _redis_rules(spec)
    yield from _authentication_rules(spec)


def _group_rules(name: str, group: Resource) -> Iterator[str]:
    parameters = group.get("rayStartParams", {})
    if unknown := set(parameters) - START_PARAMETERS:
        yield f"group {name}: rayStartParams has {sorted(unknown)[0]!r}, which is none of those used here"
    if SIZES & parameters.keys() and group.get("resources"):
        yield f"group {name}: sizes are in rayStartParams and in resources"
    if not group["template"]["spec"].get("containers"):
        yield f"group {name} has no container"


def _worker_rules(spec: Resource, workers: list[Resource]) -> Iterator[str]:
    for group in workers:
        least, most = group.get("minReplicas"), group.get("maxReplicas")
        if least is None or most is None:
            yield f"group {group['groupName']} needs minReplicas and maxReplicas"
        elif not least <= group.get("replicas", least) <= most:
            yield f"group {group['groupName']}: replicas are not from {least} to {most}"
        if group.get("suspend") and spec.get("enableInTreeAutoscaling"):
            yield f"group {group['groupName']} cannot be suspended while Ray scales it"


def _autoscaler_rules(spec: Resource, groups: Mapping[str, Resource]) -> Iterator[str]:
    head = _environment(groups["head"])
    version = spec.get("autoscalerOptions", {}).get("version")
    if not spec.get("enableInTreeAutoscaling"):
        if "RAY_enable_autoscaler_v2" in head or version == "v2":
            yield "autoscaler v2 needs enableInTreeAutoscaling"
        return
    if version is not None and "RAY_enable_autoscaler_v2" in head:
        yield "the autoscaler's version is in autoscalerOptions and in the environment"
    for name, group in groups.items():
        if version == "v2" and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield f"group {name}: autoscaler v2 needs restartPolicy Never, or none"


def _redis_rules(spec: Resource) -> Iterator[str]:
    head = spec["headGroupSpec"]
    given = SET_BY_OPERATOR & _environment(head)
    given |= {"redis-password", "redis-username"} & head.get("rayStartParams", {}).keys()
    if given:
        yield f"{sorted(given)[0]} is set by hand: gcsFaultToleranceOptions has it"
    options = spec.get("gcsFaultToleranceOptions")
    if options is not None and options.get("backend", "redis") == "redis" and not options.get("redisAddress"):
        yield "gcsFaultToleranceOptions needs redisAddress"


def _authentication_rules(spec: Resource) -> Iterator[str]:
    if spec.get("authOptions", {}).get("mode") != "token":
        yield "authOptions.mode is not token: whoever reaches a port runs code"
        return
    version = re.match(r"(\d+)\.(\d+)\.", spec.get("rayVersion", ""))
    if version is None or (int(version[1]), int(version[2])) < TOKEN_SINCE:
        yield f"a token needs rayVersion 2.52 or newer, it is {spec.get('rayVersion')!r}"


def _job_rules(resource: Resource) -> Iterator[str]:
    spec = resource["spec"]
    yield from _name_rules(resource)
    if not PLAIN_WORDS.fullmatch(spec.get("entrypoint", "")):
        yield f"entrypoint {spec.get('entrypoint')!r} has more than plain words: put them into the ConfigMap"
    existing, cluster = bool(spec.get("clusterSelector")), spec.get("rayClusterSpec")
    if (cluster is None) != existing:
        yield "one of rayClusterSpec and clusterSelector must be given"
    yield from _ending_rules(spec, existing=existing)
    yield from (f"{key} is {spec[key]}" for key, least in LEAST.items() if spec.get(key, least) < least)
    if spec.get("submissionMode") == "SidecarMode" and spec.get("submitterPodTemplate"):
        yield "SidecarMode has no submitterPodTemplate"
    if cluster is not None:
        yield from _spec_rules(cluster)
        yield from _queue_rules(resource, cluster)


def _ending_rules(spec: Resource, *, existing: bool) -> Iterator[str]:
    ends = spec.get("shutdownAfterJobFinishes")
    if spec.get("suspend") and (existing or not ends):
        yield "a job that can be suspended needs a cluster of its own, and shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished", 0) and not ends:
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes"
    if spec.get("backoffLimit", 0) and (existing or spec.get("submissionMode") == "InteractiveMode"):
        yield "backoffLimit needs a new cluster, and a job that is submitted"


def _queue_rules(resource: Resource, cluster: Resource) -> Iterator[str]:
    if QUEUE_LABEL not in resource["metadata"].get("labels", {}):
        return
    if not resource["spec"].get("shutdownAfterJobFinishes"):
        yield "Kueue needs shutdownAfterJobFinishes"
    if cluster.get("enableInTreeAutoscaling"):
        yield "Kueue reserves a fixed size: enableInTreeAutoscaling must be false"
    if len(cluster.get("workerGroupSpecs", [])) > MAX_GROUPS_IN_QUEUE:
        yield f"Kueue takes {MAX_GROUPS_IN_QUEUE} groups of workers"


def _service_rules(resource: Resource) -> Iterator[str]:
    spec = resource["spec"]
    cluster, upgrade = spec["rayClusterConfig"], spec.get("upgradeStrategy", {})
    yield from _name_rules(resource)
    yield from _spec_rules(cluster)
    if upgrade.get("type", "NewCluster") not in UPGRADES:
        yield f"upgradeStrategy.type {upgrade['type']!r} is none of {', '.join(sorted(UPGRADES))}"
    if upgrade.get("type") == "NewClusterWithIncrementalUpgrade":
        yield from _upgrade_rules(cluster, upgrade.get("clusterUpgradeOptions"))
    if cluster.get("authOptions", {}).get("enableK8sTokenAuth"):
        yield "enableK8sTokenAuth is not for a RayService"


def _upgrade_rules(cluster: Resource, options: Resource | None) -> Iterator[str]:
    if not cluster.get("enableInTreeAutoscaling"):
        yield "an incremental upgrade needs enableInTreeAutoscaling"
    if options is None:
        yield "an incremental upgrade needs clusterUpgradeOptions"
        return
    for key in ("stepSizePercent", "maxSurgePercent"):
        if not 0 <= options.get(key, 100) <= 100:
            yield f"{key} is {options[key]}, not from 0 to 100"
    if options.get("intervalSeconds", 0) <= 0:
        yield "intervalSeconds must be above 0"
    if not options.get("gatewayClassName"):
        yield "an incremental upgrade needs gatewayClassName"


def _budget_rules(resource: Resource) -> Iterator[str]:
    """Yield what would let no pod be evicted: a share is of a number that a RayCluster does not tell."""
    spec = resource["spec"]
    if "maxUnavailable" in spec:
        yield "maxUnavailable is not for Ray pods: a RayCluster has no scale subresource; give minAvailable"
    elif not isinstance(spec.get("minAvailable"), int):
        yield f"minAvailable of Ray pods is a whole number, and not {spec.get('minAvailable')!r}"


def _environment(group: Resource) -> set[str]:
    """Return the names of a group's variables, those of its Ray container."""
    containers = group["template"]["spec"].get("containers") or [{}]
    return {one["name"] for one in containers[0].get("env", [])}


_CHECKS: Mapping[str, Callable[[Resource], Iterator[str]]] = {
    "RayCluster": _cluster_rules,
    "RayJob": _job_rules,
    "RayService": _service_rules,
    "PodDisruptionBudget": _budget_rules,
}
