"""What runs: a RayCluster that stays, a RayJob per step, a RayService, and the configuration they read."""

from typing import Any

import yaml

from mats_ray.config import RunConfig
from mats_ray.config.deploy import CaptionJobConfig, DeployConfig
from mats_ray.deploy.demand import STEPS, Pods, job_pods, service_pods
from mats_ray.deploy.pods import CODE, CONFIG_FOLDER, Place, Tree, cluster_spec, local_model, metadata
from mats_ray.errors import ConfigError

API_VERSION = "ray.io/v1"
TTL_SECONDS = 3600
"""Seconds for which the cluster of a finished job is kept, for its logs."""
RETRIES = 2
"""Number of new clusters after a failed one; every job goes on where it was."""
START_SECONDS = 3600
"""Seconds within which the cluster of a job must be up: nodes with GPUs may be long in coming."""
SERVICE_MARGIN_SECONDS = 40
"""Seconds by which Serve's own limit on a request exceeds the service's, which answers in JSON."""
RUN_FILE, EVALUATION_FILE = "run.yaml", "evaluate.yaml"
ARGUMENTS_FILE = "caption_arguments.yaml"
"""Arguments of the captioning job. Questions are free text, and an entrypoint is read by shells."""


def config_map(config: RunConfig, deploy: DeployConfig) -> Tree:
    """Return the ConfigMap with what was configured, and nothing that only has its default."""
    changed = config.model_dump(mode="json", exclude_unset=True, exclude={"deploy"})
    data = {RUN_FILE: yaml.safe_dump(changed, sort_keys=False)}
    if deploy.evaluate is not None:
        evaluation = deploy.evaluate.model_dump(mode="json", exclude_unset=True)
        evaluation["model"] = local_model(_evaluated_model(config, deploy))
        data[EVALUATION_FILE] = yaml.safe_dump(evaluation, sort_keys=False)
    if deploy.caption is not None:
        data[ARGUMENTS_FILE] = yaml.safe_dump(_caption_arguments(config, deploy.caption))
    meta = metadata(deploy, f"{deploy.name}-config", "platform")
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def ray_cluster(deploy: DeployConfig) -> Tree:
    """Return the cluster for jobs that people submit, ``ray job submit``."""
    place = Place(deploy, "cluster")
    gpu = deploy.gpu
    largest = Pods(cpu=deploy.cpu.max_pods, gpu=gpu.max_pods if gpu else 0)
    smallest = Pods(cpu=deploy.cpu.min_pods, gpu=gpu.min_pods if gpu else 0)
    spec = cluster_spec(place, largest, smallest=smallest, fixed=False, keeps_state=True)
    return {
        "apiVersion": API_VERSION,
        "kind": "RayCluster",
        "metadata": metadata(deploy, deploy.name, "cluster"),
        "spec": spec,
    }


def ray_jobs(config: RunConfig, deploy: DeployConfig) -> dict[str, Tree]:
    """Return the jobs that this configuration has work for, by step."""
    has_work = {
        "prepare": bool(config.data.prepare.sources),
        "embed": config.data.embed.mode == "stored",
        "memory": config.data.embed.mode == "stored" and config.bridge != "none",
        "caption": deploy.caption is not None,
        "evaluate": deploy.evaluate is not None,
    }
    return {step: _ray_job(config, deploy, step) for step in STEPS if has_work.get(step, True)}


def _ray_job(config: RunConfig, deploy: DeployConfig, step: str) -> Tree:
    queued = deploy.queue is not None
    place = Place(deploy, step, model=_model_of(config, deploy, step))
    pods = job_pods(config, deploy, step)
    meta = metadata(deploy, f"{deploy.name}-{step}", step)
    if queued:
        meta["labels"] = {**meta["labels"], "kueue.x-k8s.io/queue-name": deploy.queue}
    if not queued and pods.cpu:  # reading and decoding take what there is
        pods = Pods(cpu=deploy.cpu.max_pods, gpu=pods.gpu)
    spec: Tree = {
        "entrypoint": _entrypoint(step),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": TTL_SECONDS,
        "backoffLimit": RETRIES,
        "preRunningDeadlineSeconds": START_SECONDS,
        "rayClusterSpec": cluster_spec(
            place, pods, smallest=Pods(cpu=0, gpu=0), fixed=queued, keeps_state=False
        ),
    }
    if queued:  # Kueue starts it
        spec["suspend"] = True
    return {"apiVersion": API_VERSION, "kind": "RayJob", "metadata": meta, "spec": spec}


def _entrypoint(step: str) -> str:
    """Return a command of fixed words: it is the same for every configuration."""
    script = f"{CODE}/jobs/{step}.py"
    if step == "caption":
        return f"python -m mats_ray.deploy.run_job {script} {CONFIG_FOLDER}/{ARGUMENTS_FILE}"
    file = EVALUATION_FILE if step == "evaluate" else RUN_FILE
    return f"python {script} --config {CONFIG_FOLDER}/{file}"


def _caption_arguments(config: RunConfig, caption: CaptionJobConfig) -> list[str]:
    paths = {"config": f"{CONFIG_FOLDER}/{RUN_FILE}", "model": local_model(config.model_dir)}
    paths |= {"audio": caption.audio, "out": caption.out}
    return [
        *(f"--{name}={path}" for name, path in paths.items()),
        *(f"--ask={question}" for question in caption.questions),
    ]


def _model_of(config: RunConfig, deploy: DeployConfig, step: str) -> str | None:
    """Return the model directory that a job reads."""
    if step == "evaluate":
        return _evaluated_model(config, deploy)
    return config.model_dir if step == "caption" else None


def _evaluated_model(config: RunConfig, deploy: DeployConfig) -> str:
    given = deploy.evaluate.model if deploy.evaluate is not None else None
    return given or config.model_dir


def ray_service(config: RunConfig, deploy: DeployConfig) -> Tree:
    """Return the HTTP service, with a cluster of its own."""
    serve = config.serve
    model = serve.model if "model" in serve.model_fields_set else config.model_dir
    place = Place(deploy, "serve", model=model)
    smallest = service_pods(serve, deploy, smallest=True)
    largest = service_pods(serve, deploy, smallest=False)
    spec: Tree = {
        "serveConfigV2": yaml.safe_dump(serve_config(config, model=local_model(model)), sort_keys=False),
        "excludeHeadPodFromServeSvc": True,
        "upgradeStrategy": _upgrades(deploy),
        "rayClusterConfig": cluster_spec(place, largest, smallest=smallest, fixed=False, keeps_state=True),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "RayService",
        "metadata": metadata(deploy, f"{deploy.name}-serve", "serve"),
        "spec": spec,
    }


def _upgrades(deploy: DeployConfig) -> Tree:
    if deploy.gateway_class is None:
        return {"type": "NewCluster"}
    return {
        "type": "NewClusterWithIncrementalUpgrade",
        "clusterUpgradeOptions": {
            "gatewayClassName": deploy.gateway_class,
            # of the traffic at a time; a quarter more replicas than before at most
            "stepSizePercent": 10,
            "intervalSeconds": 30,
            "maxSurgePercent": 25,
        },
    }


def serve_config(config: RunConfig, *, model: str) -> dict[str, Any]:
    """Return what ``serve deploy`` reads: ``serve/config.yaml`` for pods.

    Args:
        config: Section ``serve`` are the arguments of the service.
        model: Model directory as the pods see it.
    """
    serve = config.serve
    if serve.api_keys_file is not None:
        raise ConfigError(
            f"serve.api_keys_file = {serve.api_keys_file} is a file of one pod: on Kubernetes keys are in a "
            "Secret (docs/deployment.md)"
        )
    args = serve.model_dump(mode="json", exclude_unset=True) | {"model": model}
    application: Tree = {
        "name": "mats",
        "route_prefix": "/",
        "import_path": "serve.app:build_app",
        "args": args,
    }
    if serve.ingress.autoscaling.min_replicas > 1:  # the end of one pod is not the end of the service
        application["deployments"] = [{"name": "Ingress", "max_replicas_per_node": 1}]
    seconds = serve.request_timeout_seconds + serve.stream_timeout_seconds + SERVICE_MARGIN_SECONDS
    return {
        "proxy_location": "EveryNode",
        "http_options": {
            "host": "0.0.0.0",  # noqa: S104 (keys are required)
            "port": 8000,
            "request_timeout_s": seconds,
            "keep_alive_timeout_s": 30,
        },
        "logging_config": {"encoding": "JSON", "log_level": "INFO", "enable_access_log": False},
        "applications": [application],
    }
