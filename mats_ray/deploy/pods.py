"""Pods of Ray clusters: one template for head and workers, and the groups they form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mats_ray.config.deploy import DeployConfig, GPUGroupConfig, PodConfig, WorkerGroupConfig
from mats_ray.deploy.demand import Pods
from mats_ray.storage import is_remote

Tree = dict[str, Any]

RAY_VERSION = "2.60.0"
"""Version of Ray in the image; that of ``requirements.lock``."""
CODE = "/home/ray/mats"
"""Folder of jobs/ and serve/ in the image."""
CONFIG_FOLDER = "/etc/mats"
"""Folder at which pods see the configuration."""
MODEL_FOLDER = "/var/mats/model"
"""Folder into which a pod fetches a model directory from S3."""
USER, GROUP = 1000, 100
"""Numbers of the user ``ray`` and its group in Ray's images."""
PORTS = {"gcs": 6379, "dashboard": 8265, "client": 10001, "serve": 8000, "metrics": 8080}
IDLE_SECONDS = 900
"""Seconds after which an idle pod is removed: the image alone takes minutes to pull."""
REDIS_PORT = 6379
OPTIONAL_ENVIRONMENT = "env"
"""End of the name of the Secret with more environment variables, HF_TOKEN or OPENAI_API_KEY say."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the pods of one cluster are for, and what they need beside the image."""

    deploy: DeployConfig
    step: str
    """Value of the label ``step``: ``cluster``, ``train``, ..., ``serve``."""
    model: str | None = None
    """Model directory that pods fetch before they start, where it is remote."""

    @property
    def labels(self) -> dict[str, str]:
        """Labels of resources and pods."""
        return {"app": self.deploy.name, "step": self.step}

    @property
    def is_service(self) -> bool:
        """Whether the pods serve HTTP."""
        return self.step == "serve"

    @property
    def fetches_model(self) -> bool:
        """Whether the model directory is remote."""
        return self.model is not None and is_remote(self.model)


def local_model(model: str) -> str:
    """Return where pods find a model directory: it is read from folders only."""
    return MODEL_FOLDER if is_remote(model) else model


def metadata(deploy: DeployConfig, name: str, step: str, **more: object) -> Tree:
    """Return ``metadata`` of a resource."""
    labels = Place(deploy, step).labels
    return {"name": name, "namespace": deploy.namespace, "labels": labels, **more}


def cluster_spec(place: Place, pods: Pods, *, smallest: Pods, fixed: bool, keeps_state: bool) -> Tree:
    """Return the specification of a Ray cluster.

    Args:
        place: What it is for.
        pods: Largest number of pods of each group; a group of none is left out.
        smallest: Number of pods kept without work.
        fixed: The groups have their largest size from the start, without an autoscaler.
        keeps_state: Redis keeps the state of the GCS, so that a new head continues with the old workers.
    """
    deploy = place.deploy
    spec: Tree = {"rayVersion": RAY_VERSION, "authOptions": {"mode": "token"}}
    spec["enableInTreeAutoscaling"] = not fixed
    if not fixed:
        spec["autoscalerOptions"] = {"version": "v2", "idleTimeoutSeconds": IDLE_SECONDS}
    if keeps_state:
        spec["gcsFaultToleranceOptions"] = {
            "backend": "redis",
            "redisAddress": f"{deploy.name}-redis:{REDIS_PORT}",
            "redisPassword": _from_secret(f"{deploy.name}-redis", "password"),
        }
    spec["headGroupSpec"] = {
        # no tasks on the node whose end is the end of the job
        "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104 (inside a pod)
        "template": _template(place, "head", deploy.head, scales=not fixed),
    }
    counts = {"cpu": (pods.cpu, smallest.cpu), "gpu": (pods.gpu, smallest.gpu)}
    spec["workerGroupSpecs"] = [
        _group(place, name, group, *counts[name], fixed=fixed)
        for name, group in deploy.worker_groups
        if counts[name][0]
    ]
    return spec


def _group(
    place: Place, name: str, group: WorkerGroupConfig, largest: int, smallest: int, *, fixed: bool
) -> Tree:
    least = largest if fixed else smallest
    return {
        "groupName": name,
        "replicas": least,
        "minReplicas": least,
        "maxReplicas": largest,
        "rayStartParams": {},
        "template": _template(place, "worker", group, scales=False),
    }


def _template(place: Place, role: str, pod: PodConfig, *, scales: bool) -> Tree:
    """Return the template of a group's pods.

    Args:
        place: What the cluster is for.
        role: ``head`` or ``worker``.
        pod: Their size and nodes.
        scales: Ray's autoscaler runs in them, the one process that speaks to Kubernetes.
    """
    spec: Tree = {
        "serviceAccountName": place.deploy.name,
        # the operator lets this account change clusters; a role of S3 comes by a volume of its own
        "automountServiceAccountToken": scales,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": GROUP,
            "fsGroup": GROUP,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(place, role, pod)],
        "volumes": _volumes(place),
        "terminationGracePeriodSeconds": 120,
    }
    if place.fetches_model:
        spec["initContainers"] = [_fetch_container(place)]
    if pod.node_selector:
        spec["nodeSelector"] = dict(pod.node_selector)
    keys = [*([pod.resource] if isinstance(pod, GPUGroupConfig) else []), *pod.tolerations]
    if keys:
        spec["tolerations"] = [{"key": key, "operator": "Exists"} for key in keys]
    return {"metadata": {"labels": place.labels}, "spec": spec}


def _container(place: Place, role: str, pod: PodConfig) -> Tree:
    sizes: Tree = {"cpu": str(pod.cpus), "memory": f"{pod.memory_gb}Gi"}
    if isinstance(pod, GPUGroupConfig):
        sizes[pod.resource] = str(pod.gpus)
    names = ["metrics", *(["gcs", "dashboard", "client"] if role == "head" else [])]
    names += ["serve"] if place.is_service else []
    return {
        "name": f"ray-{role}",
        **_image(place),
        "ports": [{"name": name, "containerPort": PORTS[name]} for name in names],
        "resources": {"requests": sizes, "limits": sizes},
    }


def _fetch_container(place: Place) -> Tree:
    sizes = {"cpu": "1", "memory": "2Gi"}
    return {
        "name": "fetch-model",
        **_image(place),
        # Kubernetes takes $(NAME) for a variable, and $$ for $
        "command": ["mats", "deploy", "fetch", str(place.model).replace("$", "$$"), "--out", MODEL_FOLDER],
        "resources": {"requests": sizes, "limits": sizes},
    }


def _image(place: Place) -> Tree:
    """Return what all containers of our image have in common."""
    return {
        "image": place.deploy.image,
        "env": _environment(place),
        "envFrom": _environment_from_secrets(place.deploy),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": _mounts(place),
    }


def _environment(place: Place) -> Sequence[Tree]:
    deploy = place.deploy
    values: dict[str, str] = {"RAY_USAGE_STATS_ENABLED": "0"}
    if deploy.s3 is not None:
        values["AWS_REGION"] = deploy.s3.region
        if deploy.s3.endpoint_url is not None:
            values["AWS_ENDPOINT_URL"] = deploy.s3.endpoint_url
    if deploy.volume is not None:
        values["HF_HOME"] = f"{deploy.volume.path}/huggingface"
    if place.is_service:
        values |= {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure"}
    env: list[Tree] = [{"name": name, "value": value} for name, value in values.items()]
    if place.is_service:
        keys = _from_secret(f"{deploy.name}-api-keys", "MATS_API_KEYS")
        env.append({"name": "MATS_API_KEYS", **keys})
    return env


def _environment_from_secrets(deploy: DeployConfig) -> Sequence[Tree]:
    found: list[Tree] = [{"secretRef": {"name": f"{deploy.name}-{OPTIONAL_ENVIRONMENT}", "optional": True}}]
    if deploy.s3 is not None and deploy.s3.secret is not None:
        found.append({"secretRef": {"name": deploy.s3.secret}})
    return found


def _from_secret(name: str, key: str) -> Mapping[str, Tree]:
    return {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def _volumes(place: Place) -> Sequence[Tree]:
    deploy = place.deploy
    volumes: list[Tree] = [{"name": "config", "configMap": {"name": f"{deploy.name}-config"}}]
    if deploy.volume is not None:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": f"{deploy.name}-data"}})
    if place.fetches_model:
        volumes.append({"name": "model", "emptyDir": {}})
    return volumes


def _mounts(place: Place) -> Sequence[Tree]:
    mounts: list[Tree] = [{"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True}]
    if place.deploy.volume is not None:
        mounts.append({"name": "data", "mountPath": place.deploy.volume.path})
    if place.fetches_model:
        mounts.append({"name": "model", "mountPath": MODEL_FOLDER.rpartition("/")[0]})
    return mounts
