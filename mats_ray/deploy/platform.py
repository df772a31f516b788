"""What Ray clusters stand on: namespace, account, volume, Redis, policies, monitors, disruption budgets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mats_ray.config.deploy import DeployConfig
from mats_ray.deploy.demand import STEPS, Pods
from mats_ray.deploy.pods import PORTS, REDIS_PORT, Tree, metadata

REDIS_IMAGE = "redis:8.2.1-alpine"
REDIS_USER = 999
"""Number of the user ``redis`` in its image."""
REDIS_RUN = "/run/redis"
"""Folder in memory in which Redis' configuration is written, as it holds the password."""
ANYWHERE = {"0.0.0.0/0": "169.254.169.254/32", "::/0": "fd00:ec2::254/128"}
"""All addresses, and among them that at which clouds hand out the node's own credentials."""
NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""Label that Kubernetes gives to every namespace."""


def platform(deploy: DeployConfig, smallest_service: Pods) -> Iterator[Tree]:
    """Yield the resources, each before those that name it.

    Args:
        deploy: The section.
        smallest_service: Worker pods of the service with its smallest number of replicas.
    """
    yield _namespace(deploy)
    yield _service_account(deploy)
    if deploy.volume is not None:
        yield _claim(deploy)
    yield from _redis(deploy)
    yield from _network_policies(deploy)
    yield from _pod_monitors(deploy)
    yield from _disruption_budgets(deploy, smallest_service)


def _resource(api: str, kind: str, meta: Mapping[str, object], **body: object) -> Tree:
    return {"apiVersion": api, "kind": kind, "metadata": meta, **body}


def _named(deploy: DeployConfig, name: str, **more: object) -> Tree:
    return metadata(deploy, f"{deploy.name}-{name}", "platform", **more)


def _namespace(deploy: DeployConfig) -> Tree:
    labels = {"app": deploy.name, "pod-security.kubernetes.io/enforce": "baseline"}
    return _resource("v1", "Namespace", {"name": deploy.namespace, "labels": labels})


def _service_account(deploy: DeployConfig) -> Tree:
    more: Tree = {}
    if deploy.s3 is not None and deploy.s3.role_arn is not None:
        more = {"annotations": {"eks.amazonaws.com/role-arn": deploy.s3.role_arn}}
    return _resource("v1", "ServiceAccount", metadata(deploy, deploy.name, "platform", **more))


def _claim(deploy: DeployConfig) -> Tree:
    assert deploy.volume is not None
    volume = deploy.volume
    spec: Tree = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": f"{volume.size_gb}Gi"}},
    }
    if volume.storage_class is not None:
        spec["storageClassName"] = volume.storage_class
    return _resource("v1", "PersistentVolumeClaim", _named(deploy, "data"), spec=spec)


def _redis(deploy: DeployConfig) -> Iterator[Tree]:
    """Yield Redis with a disk, in which Ray's heads keep what they must know again after a restart."""
    labels = {"app": deploy.name, "step": "redis"}
    ports = [{"name": "redis", "port": REDIS_PORT, "targetPort": "redis"}]
    name = f"{deploy.name}-redis"
    yield _resource(
        "v1",
        "Service",
        _named(deploy, "redis"),
        spec={"selector": labels, "ports": ports, "clusterIP": "None"},
    )
    spec = {
        "serviceName": name,
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": _redis_pod(name)},
        "volumeClaimTemplates": [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "state"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "8Gi"}},
                },
            }
        ],
    }
    yield _resource("apps/v1", "StatefulSet", _named(deploy, "redis"), spec=spec)


def _redis_pod(secret: str) -> Tree:
    sizes = {"cpu": "500m", "memory": "1Gi"}
    file = f"{REDIS_RUN}/redis.conf"
    settings = r"requirepass %s\nappendonly yes\ndir /data\n"
    start = f'umask 077; printf "{settings}" "$REDIS_PASSWORD" > {file}; exec redis-server {file}'
    ping = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli ping | grep -q PONG'
    password = {"secretKeyRef": {"name": secret, "key": "password"}}
    container = {
        "name": "redis",
        "image": REDIS_IMAGE,
        # no password in the list of processes; exec, not a pipe: SIGTERM must reach Redis and not a shell
        "command": ["sh", "-c", start],
        "env": [{"name": "REDIS_PASSWORD", "valueFrom": password}],
        "ports": [{"name": "redis", "containerPort": REDIS_PORT}],
        "readinessProbe": {"exec": {"command": ["sh", "-c", ping]}, "periodSeconds": 10},
        "resources": {"requests": sizes, "limits": sizes},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "state", "mountPath": "/data"}, {"name": "run", "mountPath": REDIS_RUN}],
    }
    return {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": REDIS_USER,
            "fsGroup": REDIS_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
    }


def _ray_pods(deploy: DeployConfig) -> Tree:
    """Select all Ray pods, and not Redis."""
    return {
        "matchLabels": {"app": deploy.name},
        "matchExpressions": [{"key": "step", "operator": "In", "values": ["cluster", *STEPS, "serve"]}],
    }


def _tcp(*numbers: int) -> Sequence[Tree]:
    return [{"protocol": "TCP", "port": number} for number in numbers]


def _network_policies(deploy: DeployConfig) -> Iterator[Tree]:
    """Yield what may reach Ray's pods and Redis, and what they may reach.

    Whoever reaches Ray's ports with the token runs code; so only Ray's pods, submitters of the namespace and
    the operator reach them. HTTP is for everyone.
    """
    here = {"podSelector": _ray_pods(deploy)}
    namespaces = {"monitoring": deploy.monitoring_namespace, "operator": deploy.operator_namespace}
    outside = {
        role: {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: name}}}
        for role, name in namespaces.items()
    }
    ray: Tree = {
        "podSelector": _ray_pods(deploy),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [here]},
            {"from": [{"podSelector": {}}], "ports": _tcp(PORTS["dashboard"])},
            {"from": [outside["operator"]], "ports": _tcp(PORTS["dashboard"], PORTS["serve"])},
            {"from": [outside["monitoring"]], "ports": _tcp(PORTS["metrics"])},
            {"ports": _tcp(PORTS["serve"])},
        ],
        # every pod; and anywhere, as buckets and hubs are, but for the node's own credentials
        "egress": [
            {"to": [{"namespaceSelector": {}}]},
            {"to": [_outside(cidr, credentials) for cidr, credentials in ANYWHERE.items()]},
        ],
    }
    yield _resource("networking.k8s.io/v1", "NetworkPolicy", _named(deploy, "ray"), spec=ray)
    redis: Tree = {
        "podSelector": {"matchLabels": {"app": deploy.name, "step": "redis"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": _heads(deploy)}, _cleanup_pods()], "ports": _tcp(REDIS_PORT)}],
        "egress": [],
    }
    yield _resource("networking.k8s.io/v1", "NetworkPolicy", _named(deploy, "redis"), spec=redis)


def _outside(cidr: str, credentials: str) -> Tree:
    return {"ipBlock": {"cidr": cidr, "except": [credentials]}}


def _heads(deploy: DeployConfig) -> Tree:
    return {"matchLabels": {"app": deploy.name, "ray.io/node-type": "head"}}


def _cleanup_pods() -> Tree:
    """Select the pods by which the operator removes the state of a deleted cluster."""
    return {"podSelector": {"matchLabels": {"ray.io/node-type": "redis-cleanup"}}}


def _pod_monitors(deploy: DeployConfig) -> Iterator[Tree]:
    """Yield what Prometheus reads: the export of every Ray node, which has the service's metrics, too."""
    spec: dict[str, Any] = {
        "selector": _ray_pods(deploy),
        "podTargetLabels": ["step", "ray.io/cluster", "ray.io/node-type"],
        "podMetricsEndpoints": [{"port": "metrics", "interval": "15s"}],
    }
    meta = _named(deploy, "ray")
    meta["labels"] = {**meta["labels"], **deploy.monitoring_labels}
    yield _resource("monitoring.coreos.com/v1", "PodMonitor", meta, spec=spec)


def _disruption_budgets(deploy: DeployConfig, smallest_service: Pods) -> Iterator[Tree]:
    """Yield what a drain of nodes has to leave: heads of jobs, and all pods of the smallest service but one.

    Kubernetes does not know how many pods a RayCluster should have, so a budget can only say how many must be
    left. A service that has grown may lose more than one at a time.
    """
    jobs = _heads(deploy) | {
        "matchExpressions": [{"key": "step", "operator": "In", "values": list(STEPS)}],
    }
    service = {"matchLabels": {"app": deploy.name, "step": "serve"}}
    # a head for each step is all heads of jobs there are; a head and these workers, less one, are the workers
    kept = {"jobs": len(STEPS), "serve": smallest_service.cpu + smallest_service.gpu}
    for name, selector in (("jobs", jobs), ("serve", service)):
        spec = {"minAvailable": kept[name], "selector": selector}
        yield _resource("policy/v1", "PodDisruptionBudget", _named(deploy, name), spec=spec)
