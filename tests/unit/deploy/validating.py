"""What Kubernetes, KubeRay's operator, Ray and our loaders would say of a resource, none of them running.

``complaints`` is about one resource, ``loose_ends`` about what its names and labels point at.
"""

import functools
import json
import shlex
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate.utils import SchemaNotFoundError
from pydantic import ValidationError
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    LoggingConfig,
    ServeApplicationSchema,
    ServeDeploySchema,
)

from mats_ray.cli.main import build_parser
from mats_ray.config.base import validate
from mats_ray.config.evaluate import EvaluateConfig
from mats_ray.config.run import RunConfig
from mats_ray.config.serve import ServeConfig
from mats_ray.deploy import run_job
from mats_ray.deploy.pods import CONFIG_FOLDER
from mats_ray.deploy.rules import broken_rules
from mats_ray.errors import MATSError

ROOT = Path(__file__).resolve().parents[3]
SCHEMAS = ROOT.parent / "shared" / "data" / "kuberay"
needs_schemas = pytest.mark.skipif(
    not SCHEMAS.is_dir(), reason="no ../shared/data/kuberay: KubeRay's strict schemas"
)
KUBERNETES = "1.37"
ARGUMENTS = {"caption_arguments.yaml": "caption"}
"""Files of the ConfigMap that hold the arguments of a command."""
METADATA = {"name", "namespace", "labels", "annotations"}
QUANTITIES = {"cpu", "memory", "storage"}
POD_MONITOR = {
    "type": "object",
    "required": ["selector", "podMetricsEndpoints"],
    "additionalProperties": False,
    "properties": {
        "podTargetLabels": {"type": "array", "items": {"type": "string"}},
        "selector": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
                "matchExpressions": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["key", "operator", "values"],
                        "additionalProperties": False,
                        "properties": {
                            "key": {"type": "string"},
                            "operator": {"enum": ["In"]},
                            "values": {"type": "array", "items": {"type": "string"}},
                        },
                    },
                },
            },
        },
        "podMetricsEndpoints": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["port"],
                "additionalProperties": False,
                "properties": {"port": {"type": "string"}, "interval": {"type": "string"}},
            },
        },
    },
}
"""Keys of the Prometheus operator's PodMonitor that are used here: its own schema is in no package."""


@functools.cache
def ray_schema(kind):
    return Draft202012Validator(json.loads((SCHEMAS / f"strict_{kind.lower()}_v1.json").read_text()))


def complaints(resource):
    """Return what is wrong with one resource, as lines."""
    found = [f"metadata.{key}" for key in resource.get("metadata", {}).keys() - METADATA]
    found += [
        f"quantity {name}" for name in quantities(resource) if "/" not in name and name not in QUANTITIES
    ]
    kind = resource["kind"]
    if resource["apiVersion"] == "ray.io/v1":
        found += [error.message for error in ray_schema(kind).iter_errors(resource)]
        found += [] if found else [*broken_rules(resource), *inner(resource)]
    elif kind == "PodMonitor":
        found += [f"top-level {key}" for key in resource.keys() - {"apiVersion", "kind", "metadata", "spec"}]
        found += [
            error.message for error in Draft202012Validator(POD_MONITOR).iter_errors(resource.get("spec"))
        ]
    else:
        try:
            kubernetes_validate.validate(resource, KUBERNETES, strict=True)
        except (kubernetes_validate.ValidationError, SchemaNotFoundError) as error:
            found.append(str(error))
        found += [] if found else broken_rules(resource)
    if kind == "ConfigMap" and not found:
        found += files(resource)
    return found


def quantities(tree):
    """Yield the names below ``requests`` and ``limits``, wherever they are."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in ("requests", "limits") and isinstance(value, dict):
                yield from value
            yield from quantities(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from quantities(value)


def inner(resource):
    """Return what Ray and our loaders say of the documents inside a resource."""
    try:
        if resource["kind"] == "RayJob":
            arguments(resource)
        if resource["kind"] == "RayService":
            serve(yaml.safe_load(resource["spec"]["serveConfigV2"]))
        _derive_autoscaling_config_from_ray_cr(as_cluster(resource))
    except (MATSError, ValidationError, ValueError, SystemExit, AssertionError) as error:
        return [f"inner: {error!r}"]
    return []


def serve(tree):
    """Load what Serve deploys; its schema lets words pass that it does not know."""
    parts = [(ServeDeploySchema, tree), (HTTPOptionsSchema, tree.get("http_options", {}))]
    parts += [(LoggingConfig, tree.get("logging_config", {}))]
    for application in tree.get("applications", []):
        parts.append((ServeApplicationSchema, application))
        parts += [(DeploymentSchema, one) for one in application.get("deployments", [])]
    for schema, part in parts:
        if unknown := part.keys() - schema.model_fields:
            raise ValueError(f"{schema.__name__} has no {sorted(unknown)}")
    (application,) = ServeDeploySchema(**tree).applications
    validate(ServeConfig, application.args, where="args")


def as_cluster(resource):
    """Return the RayCluster that the operator would create."""
    spec = resource["spec"]
    spec = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    meta = {"namespace": "default"} | resource["metadata"]
    return {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": meta, "spec": spec}


def arguments(job, config_map=None):
    """Parse an entrypoint as the job would, with the ConfigMap arguments in a file, too."""
    python, *words = shlex.split(job["spec"]["entrypoint"])
    in_file = words[:2] == ["-m", run_job.__name__]
    script, *words = words[2:] if in_file else words
    path = Path(script)
    assert python == "python"
    assert (ROOT / "jobs" / path.name).is_file()
    if in_file:
        (file,) = words
        assert Path(file).name in ARGUMENTS
        if config_map is None:  # they are looked at in ``files``
            return None
        words = yaml.safe_load(config_map["data"][Path(file).name])
    return parsed(path.stem, words)


def parsed(command, words):
    return build_parser([command, *words]).parse_args([command, *words])


def files(config_map):
    """Return what our loader says of the configuration files in a ConfigMap."""
    kinds = {"run.yaml": RunConfig, "evaluate.yaml": EvaluateConfig}
    found = [f"file {name}" for name in config_map.get("data", {}).keys() - kinds.keys() - ARGUMENTS.keys()]
    for name, text in config_map.get("data", {}).items():
        try:
            if name in ARGUMENTS:
                parsed(ARGUMENTS[name], yaml.safe_load(text))
            else:
                validate(kinds.get(name, RunConfig), yaml.safe_load(text), where=name)
        except (MATSError, SystemExit) as error:
            found.append(str(error))
    return found


def pod_labels(resources):
    """Yield the labels of every pod that would be there, with those that the operator adds."""
    for resource in resources:
        if resource["apiVersion"] == "ray.io/v1":
            spec = as_cluster(resource)["spec"]
            for role, group in [
                ("head", spec["headGroupSpec"]),
                *[("worker", g) for g in spec["workerGroupSpecs"]],
            ]:
                yield group["template"]["metadata"].get("labels", {}) | {"ray.io/node-type": role}
        elif resource["kind"] == "StatefulSet":
            yield resource["spec"]["template"]["metadata"].get("labels", {})


def selects(selector, labels):
    expressions = selector.get("matchExpressions", [])
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(one["key"]) in one["values"] for one in expressions
    )


def selectors(resource):
    """Yield the selectors of pods in a resource, in the form with ``matchLabels``."""
    spec = resource.get("spec", {})
    if resource["kind"] == "Service":
        yield {"matchLabels": spec["selector"]}
    elif resource["kind"] == "NetworkPolicy":
        yield spec["podSelector"]
        peers = [peer for rule in spec["ingress"] for peer in rule.get("from", [])]
        yield from (peer["podSelector"] for peer in peers if peer.get("podSelector"))
    elif "selector" in spec:
        yield spec["selector"]


def loose_ends(resources, *, secrets):
    """Return names that no resource has, and selectors that no pod matches.

    Args:
        resources: All of a rendering.
        secrets: Names of the Secrets that a person makes.
    """
    there = {(one["kind"], one["metadata"]["name"]) for one in resources} | {
        ("Secret", name) for name in secrets
    }
    pods = [*pod_labels(resources), {"ray.io/node-type": "redis-cleanup"}]
    maps = [one for one in resources if one["kind"] == "ConfigMap"]
    files_there = {f"{CONFIG_FOLDER}/{name}" for one in maps for name in one["data"]}
    for resource in resources:
        named = f"{resource['kind']} {resource['metadata']['name']}"
        yield from (f"{named} needs {what}" for what in references(resource) if what not in there)
        yield from (f"{named} reads {path}" for path in read_files(resource) if path not in files_there)
        for selector in selectors(resource):
            if not any(selects(selector, labels) for labels in pods):
                yield f"{named} selects no pod: {selector}"


def read_files(resource):
    """Yield the files of the ConfigMap that a job's entrypoint names."""
    words = resource.get("spec", {}).get("entrypoint", "").split()
    yield from (word for word in words if word.startswith(CONFIG_FOLDER))


REFERENCES = {
    "secretKeyRef": ("Secret", lambda value: value.get("name")),
    "secretRef": ("Secret", lambda value: value.get("name")),
    "persistentVolumeClaim": ("PersistentVolumeClaim", lambda value: value.get("claimName")),
    "configMap": ("ConfigMap", lambda value: value.get("name")),
    "serviceAccountName": ("ServiceAccount", str),
    "redisAddress": ("Service", lambda value: value.partition(":")[0]),
}
"""Kind and name of what the value of a key refers to."""


def references(tree):
    """Yield kind and name of everything that a tree refers to."""
    if isinstance(tree, list):
        for value in tree:
            yield from references(value)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key in REFERENCES:
                kind, name_in = REFERENCES[key]
                yield kind, name_in(value)
            else:
                yield from references(value)
