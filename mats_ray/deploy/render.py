"""All resources of one configuration: checked, then named as the files they are written to.

Folders: the root is what stands (namespace, Redis, policies, a RayCluster); ``jobs`` are started one by one,
``service`` once there is a model.
"""

from collections.abc import Mapping

from mats_ray.config import RunConfig
from mats_ray.config.deploy import DeployConfig
from mats_ray.deploy.demand import job_pods, service_pods
from mats_ray.deploy.places import check_no_secrets, check_places
from mats_ray.deploy.platform import platform
from mats_ray.deploy.pods import Tree
from mats_ray.deploy.rules import broken_rules
from mats_ray.deploy.workloads import config_map, ray_cluster, ray_jobs, ray_service
from mats_ray.errors import ConfigError

ROOT, JOBS, SERVICE = ".", "jobs", "service"


def render(config: RunConfig) -> dict[str, dict[str, Tree]]:
    """Return the resources by folder and file name.

    Raises:
        ConfigError: There is no section ``deploy``, it cannot run on such a cluster, or holds a secret.
    """
    deploy = config.deploy
    if deploy is None:
        raise ConfigError("the configuration has no section deploy: give at least deploy.image")
    check_no_secrets(config)
    check_places(config, deploy)
    jobs = ray_jobs(config, deploy)
    _check_gpus_are_used(config, deploy, jobs)
    smallest_service = service_pods(config.serve, deploy, smallest=True)
    standing = [*platform(deploy, smallest_service), config_map(config, deploy), ray_cluster(deploy)]
    folders = {
        ROOT: {_file_name(resource, deploy): resource for resource in standing},
        JOBS: {f"{step}.yaml": job for step, job in jobs.items()},
        SERVICE: {"rayservice.yaml": ray_service(config, deploy)},
    }
    for resources in folders.values():
        for name, resource in resources.items():
            if broken := broken_rules(resource):
                raise ConfigError(f"{resource['kind']} {resource['metadata']['name']} ({name}): {broken[0]}")
    return folders


def secrets_of(config: RunConfig) -> dict[str, str]:
    """Return the Secrets that must be there, by name, with what ``kubectl create secret`` needs."""
    deploy = config.deploy
    if deploy is None:
        return {}
    found = {
        f"{deploy.name}-redis": "--from-literal=password=...",
        f"{deploy.name}-api-keys": "--from-literal=MATS_API_KEYS=name:key,...",
    }
    if deploy.s3 is not None and deploy.s3.secret is not None:
        found[deploy.s3.secret] = (
            "--from-literal=AWS_ACCESS_KEY_ID=... --from-literal=AWS_SECRET_ACCESS_KEY=..."
        )
    return found


def _check_gpus_are_used(config: RunConfig, deploy: DeployConfig, jobs: Mapping[str, Tree]) -> None:
    if deploy.gpu is None:
        return
    needs = [job_pods(config, deploy, step) for step in jobs]
    needs.append(service_pods(config.serve, deploy, smallest=False))
    if not any(one.gpu for one in needs):
        raise ConfigError(
            "deploy.gpu starts pods with GPUs that nothing uses: set scaling.use_gpu, gpus_per_actor or "
            "serve.*.gpus, or leave it out"
        )


def _file_name(resource: Tree, deploy: DeployConfig) -> str:
    """Name a file by kind and name, ``networkpolicy-redis.yaml``."""
    kind, name = resource["kind"].lower(), resource["metadata"]["name"]
    rest = name.removeprefix(deploy.name).strip("-") if kind != "namespace" else ""
    return f"{kind}-{rest}.yaml" if rest else f"{kind}.yaml"
