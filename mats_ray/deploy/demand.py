"""Pods that each step of a run needs, from the numbers of its configuration.

An actor asks for CPUs and GPUs; a pod holds as many actors as both allow. What does not fit is refused
here, where the arithmetic can be shown: on the cluster it would wait for ever.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mats_ray.config import RunConfig
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.deploy import DeployConfig, GPUGroupConfig, WorkerGroupConfig
from mats_ray.config.serve import ReplicaConfig, ServeConfig
from mats_ray.errors import ConfigError

STEPS = ("prepare", "embed", "memory", "train", "caption", "evaluate")
"""Jobs in the order in which each needs what the one before it wrote."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Equal actors, or tasks, that run at the same time."""

    key: str
    """Configuration key of their number, for errors."""
    count: int
    cpus: float
    """Number of CPUs of each."""
    gpus: float = 0
    apart: bool = False
    """Each is in a pod of its own; others may be beside it."""


@dataclass(frozen=True, slots=True)
class Pods:
    """Number of pods per worker group; 0: the step does without the group."""

    cpu: int
    gpu: int


def job_pods(config: RunConfig, deploy: DeployConfig, step: str) -> Pods:
    """Return the pods that one job needs at its largest.

    Raises:
        ConfigError: An actor fits into no pod, or all of them need more pods than there may be.
    """
    return pods_for(deploy, step, _demands(config, deploy, step))


def service_pods(serve: ServeConfig, deploy: DeployConfig, *, smallest: bool) -> Pods:
    """Return the pods of the service with its smallest, or largest, number of replicas.

    Raises:
        ConfigError: As for ``job_pods``.
    """
    parts = {"ingress": serve.ingress, "encoder": serve.encoder, "answerer": serve.answerer}
    if serve.layout == "colocated":
        cpus, gpus = (sum(getattr(part, name) for part in parts.values()) for name in ("cpus", "gpus"))
        parts = {"ingress": serve.ingress.model_copy(update={"cpus": cpus, "gpus": gpus})}
    bound = "min_replicas" if smallest else "max_replicas"
    return pods_for(deploy, "serve", [_replicas(name, part, bound) for name, part in parts.items()])


def _replicas(name: str, part: ReplicaConfig, bound: str) -> Demand:
    apart = name == "ingress" and part.autoscaling.min_replicas > 1
    count = getattr(part.autoscaling, bound)
    return Demand(f"serve.{name}.autoscaling.{bound}", count, part.cpus, part.gpus, apart=apart)


def _demands(config: RunConfig, deploy: DeployConfig, step: str) -> list[Demand]:
    embed, scaling = config.data.embed, config.scaling
    reading = Demand("tasks that read", 1, 1)
    match step:
        case "prepare":
            return [Demand("data.prepare.concurrency", config.data.prepare.concurrency, 1)]
        case "embed":
            actors = Demand(
                "data.embed.concurrency", embed.concurrency, embed.cpus_per_actor, embed.gpus_per_actor
            )
            return [actors, reading]
        case "train":
            workers = Demand(
                "scaling.num_workers", scaling.max_workers, scaling.cpus_per_worker, float(scaling.use_gpu)
            )
            return [workers, reading]
        case "caption":
            return _captioning(config.caption, "caption")
        case "evaluate" if deploy.evaluate is not None:
            return _captioning(deploy.evaluate.caption, "deploy.evaluate.caption")
        case _:  # the memory is built by the driver
            return []


def _captioning(caption: CaptionConfig, section: str) -> list[Demand]:
    return [
        Demand(f"{section}.concurrency", caption.concurrency, caption.cpus_per_actor, caption.gpus_per_actor),
        Demand(f"{section}.decode_concurrency", caption.decode_concurrency, 1),
        Demand("tasks that read", 1, 1),
    ]


def pods_for(deploy: DeployConfig, step: str, demands: Sequence[Demand]) -> Pods:
    """Return the pods for actors that run at the same time.

    Raises:
        ConfigError: As for ``job_pods``.
    """
    on_gpu = [demand for demand in demands if demand.gpus]
    on_cpu = [demand for demand in demands if not demand.gpus]
    if on_gpu and deploy.gpu is None:
        raise ConfigError(f"{step} runs on GPUs ({on_gpu[0].key}), and no pod asks for any: give deploy.gpu")
    cpu = _group_pods("cpu", deploy.cpu, step, on_cpu)
    return Pods(cpu=cpu, gpu=_group_pods("gpu", deploy.gpu, step, on_gpu) if deploy.gpu else 0)


def _group_pods(name: str, group: WorkerGroupConfig, step: str, demands: Sequence[Demand]) -> int:
    share = sum(demand.count / _actors_per_pod(name, group, step, demand) for demand in demands)
    apart = max((demand.count for demand in demands if demand.apart), default=0)
    pods = max(math.ceil(share - 1e-9), apart)
    if pods > group.max_pods:
        counts = ", ".join(f"{demand.key}={demand.count}" for demand in demands if demand.count)
        raise ConfigError(
            f"{step} needs {pods} pods of the group {name} ({counts}), deploy.{name}.max_pods is "
            f"{group.max_pods}"
        )
    return pods


def _actors_per_pod(name: str, group: WorkerGroupConfig, step: str, demand: Demand) -> int:
    """Return how many actors of a demand one pod holds; a fraction of a GPU does not span two."""
    by_cpu = math.floor(group.cpus / demand.cpus + 1e-9)
    gpus = group.gpus if isinstance(group, GPUGroupConfig) else 0
    by_gpu = by_cpu
    if demand.gpus:
        by_gpu = math.floor(1 / demand.gpus + 1e-9) * gpus if demand.gpus < 1 else int(gpus / demand.gpus)
    if min(by_cpu, by_gpu) < 1:
        raise ConfigError(
            f"{step}: one actor of {demand.key} asks for {demand.cpus:g} CPUs and {demand.gpus:g} GPUs, a "
            f"pod of the group {name} has {group.cpus} and {gpus}"
        )
    return min(by_cpu, by_gpu)
