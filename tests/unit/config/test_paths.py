"""Every text of a configuration is a path with a mark, or known to be none."""

from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel

from mats_ray.config import RunConfig, load_config
from mats_ray.config.evaluate import EvaluateConfig
from mats_ray.config.paths import PathMark, paths_of

NO_PATHS = {
    "BenchmarkInput.name",
    "CaptionConfig.prefixes",
    "CaptionJobConfig.questions",
    "DataConfig.splits",
    "DeployConfig.gateway_class",
    "DeployConfig.image",
    "DeployConfig.monitoring_labels",
    "DeployConfig.monitoring_namespace",
    "DeployConfig.name",
    "DeployConfig.namespace",
    "DeployConfig.operator_namespace",
    "DeployConfig.queue",
    "EvaluateConfig.embedder",
    "EvaluateConfig.judge",
    "EvaluateConfig.training",
    "GPUGroupConfig.node_selector",
    "GPUGroupConfig.resource",
    "GPUGroupConfig.tolerations",
    "LoRAConfig.target_modules",
    "MixtureConfig.weights",
    "PodConfig.node_selector",
    "PodConfig.tolerations",
    "PrepareConfig.license_allow",
    "RunConfig.name",
    "S3Config.endpoint_url",
    "S3Config.region",
    "S3Config.role_arn",
    "S3Config.secret",
    "ServeConfig.api_keys_file",
    "ServeConfig.api_keys_variable",
    "ServeConfig.remote_hosts",
    "SourceConfig.name",
    "SourceConfig.source",
    "TableColumns.answer",
    "TableColumns.instruction",
    "TableColumns.license",
    "TableColumns.split",
    "TableColumns.task",
    "TableColumns.text",
    "TableDefaults.answer",
    "TableDefaults.instruction",
    "TableDefaults.license",
    "TracingConfig.exporter",
    "VariantConfig.name",
    "VolumeConfig.path",
    "VolumeConfig.storage_class",
    "WorkerGroupConfig.node_selector",
    "WorkerGroupConfig.tolerations",
}
"""Texts that are names, patterns or contents, and three files that need no shared storage: keys come by a
Secret, configurations of a training run and the embedder with the image. Add a new text here, or mark it as
a path."""


def parts_of(annotation) -> Iterator[object]:
    yield annotation
    for one in get_args(annotation):
        yield from parts_of(one)


def texts_below(section, seen) -> Iterator[str]:
    """Yield class and field of every text without a mark, in a section and those below."""
    if section in seen:
        return
    seen.add(section)
    for name, field in section.model_fields.items():
        parts = [*field.metadata, *parts_of(field.annotation)]
        if str in parts and not any(isinstance(one, PathMark) for one in parts):
            yield f"{section.__name__}.{name}"
        for one in parts:
            if isinstance(one, type) and issubclass(one, BaseModel):
                yield from texts_below(one, seen)


def test_every_text_is_a_path_or_known_to_be_none():
    seen: set[type] = set()

    found = {*texts_below(RunConfig, seen), *texts_below(EvaluateConfig, seen)}

    assert found == NO_PATHS


def test_paths_have_the_key_that_a_user_writes():
    sets = [
        "model.llm.path=a/b",
        "data.prepare.sources=[{source: x, path: s3://b/x, companions: {names: n}}]",
    ]

    found = {key: (value, mark.kind) for key, value, mark in paths_of(load_config("configs/toy.yaml", sets))}

    assert found["model.llm.path"] == ("a/b", "pretrained")
    assert found["data.prepare.sources.0.path"] == ("s3://b/x", "storage")
    assert found["data.prepare.sources.0.companions.names.0"] == ("n", "storage")
    assert "memory.path" not in found
