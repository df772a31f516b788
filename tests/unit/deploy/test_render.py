"""What is rendered is valid for all who read it, a mistake is found anywhere, and no secret is in it."""

import copy
from pathlib import Path

import pytest
import yaml

from mats_ray.cli.main import main
from mats_ray.deploy.kustomize import to_yaml
from mats_ray.deploy.render import render, secrets_of
from mats_ray.errors import ConfigError
from tests.unit.deploy.configs import CPU, GPU, cpu, flat, gpu, loaded, named
from tests.unit.deploy.validating import arguments, as_cluster, complaints, loose_ends, needs_schemas

SHIPPED = {"cpu": CPU, "gpu-a100": GPU}
RESOURCES = [
    pytest.param(resource, id=f"{name} {resource['kind']} {resource['metadata']['name']}")
    for name, files in SHIPPED.items()
    for resource in flat(render(loaded(files)))
]
EVERY_NAME = [one for one in RESOURCES if one.id.startswith("gpu")]
"""Each resource once: the other configuration has the same names."""
NAMES_OF_OURS = {"labels", "matchLabels", "annotations", "nodeSelector"}
"""Mappings whose keys are labels; what depends on them is checked by ``loose_ends``."""


def made(config):
    return secrets_of(config).keys() | {"mats-env"}


@needs_schemas
@pytest.mark.parametrize("resource", RESOURCES)
def test_every_reader_accepts_every_resource(resource):
    assert complaints(resource) == []


def misspelt(tree, path=()):
    """Yield path and key of every mapping, once for each list."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield path, key
            is_selector = key == "selector" and all(isinstance(one, str) for one in value.values())
            if key not in NAMES_OF_OURS and not is_selector:
                yield from misspelt(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree[:1]):
            yield from misspelt(value, (*path, index))


def with_typo(resource, path, key):
    """Return a copy with one key misspelt, in its place."""
    changed = copy.deepcopy(resource)
    parent = changed
    for step in path:
        parent = parent[step]
    items = [(f"{one}{one[-1]}" if one == key else one, value) for one, value in parent.items()]
    parent.clear()
    parent.update(items)
    return changed


@needs_schemas
@pytest.mark.parametrize("resource", EVERY_NAME)
def test_a_misspelt_key_is_found_wherever_it_is(resource):
    places = [(path, key) for path, key in misspelt(resource) if path or key not in ("apiVersion", "kind")]
    unseen = [
        ".".join(map(str, (*path, key)))
        for path, key in places
        if not complaints(with_typo(resource, path, key))
    ]

    assert places
    assert unseen == []


@needs_schemas
def test_a_misspelt_key_inside_a_document_is_found():
    folders = render(gpu())
    for kind, name, keys in (
        ("ConfigMap", "mats-config", ("data", "run.yaml")),
        ("ConfigMap", "mats-config", ("data", "evaluate.yaml")),
        ("RayService", "mats-serve", ("spec", "serveConfigV2")),
    ):
        resource = named(folders, kind, name)
        document = yaml.safe_load(resource[keys[0]][keys[1]])
        for path, key in misspelt(document):
            if "weights" in path:  # names of sources
                continue
            changed = copy.deepcopy(resource)
            changed[keys[0]][keys[1]] = yaml.safe_dump(with_typo(document, path, key))
            assert complaints(changed), (name, keys, path, key)


def test_a_misspelt_argument_in_a_file_is_found(capsys):
    resource = copy.deepcopy(named(render(gpu()), "ConfigMap", "mats-config"))
    text = resource["data"]["caption_arguments.yaml"]
    resource["data"]["caption_arguments.yaml"] = text.replace("--audio=", "--audoi=")

    assert complaints(resource)
    assert "--audio" in capsys.readouterr().err


@needs_schemas
@pytest.mark.parametrize(
    ("entrypoint"),
    [
        "python /home/ray/mats/jobs/traiin.py --config a",
        "python /home/ray/mats/jobs/train.py --confg a",
        "mats train",
        "python -m mats_ray.deploy.run_job /home/ray/mats/jobs/captoin.py /etc/mats/caption_arguments.yaml",
        "python -m mats_ray.deploy.run_job /home/ray/mats/jobs/caption.py /etc/mats/arguments.yaml",
        "python -m mats_ray.deploy.runjob /home/ray/mats/jobs/caption.py /etc/mats/caption_arguments.yaml",
    ],
)
def test_a_misspelt_entrypoint_is_found(entrypoint):
    job = copy.deepcopy(named(render(cpu()), "RayJob", "mats-train"))
    job["spec"]["entrypoint"] = entrypoint

    assert complaints(job)


@pytest.mark.parametrize("files", SHIPPED.values(), ids=SHIPPED)
def test_every_name_leads_to_a_resource_and_every_selector_to_a_pod(files):
    config = loaded(files)

    assert list(loose_ends(flat(render(config)), secrets=made(config))) == []


@pytest.mark.parametrize(
    ("kind", "name", "path", "value"),
    [
        ("PodDisruptionBudget", "mats-serve", "spec.selector.matchLabels.step", "srve"),
        ("NetworkPolicy", "mats-redis", "spec.podSelector.matchLabels.app", "mat"),
        ("Service", "mats-redis", "spec.selector.step", "redi"),
        ("PodMonitor", "mats-ray", "spec.selector.matchLabels.app", "mat"),
        ("RayCluster", "mats", "spec.headGroupSpec.template.spec.serviceAccountName", "mat"),
        ("RayCluster", "mats", "spec.gcsFaultToleranceOptions.redisAddress", "mats-reds:6379"),
        ("RayJob", "mats-train", "spec.entrypoint", "python jobs/train.py --config /etc/mats/x.yaml"),
    ],
)
def test_a_misspelt_name_is_a_loose_end(kind, name, path, value):
    config = cpu()
    resources = copy.deepcopy(flat(render(config)))
    (tree,) = [one for one in resources if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    *parents, last = path.split(".")
    for step in parents:
        tree = tree[step]
    tree[last] = value

    assert any(name in line for line in loose_ends(resources, secrets=made(config)))


def test_all_six_jobs_the_service_and_a_cluster_are_shipped():
    for files in SHIPPED.values():
        kinds = [
            (one["kind"], one["metadata"]["labels"]["step"])
            for one in flat(render(loaded(files)))
            if "ray.io" in one["apiVersion"]
        ]

        steps = ("prepare", "embed", "memory", "train", "caption", "evaluate")
        assert sorted(kinds) == sorted(
            [("RayCluster", "cluster"), ("RayService", "serve"), *[("RayJob", step) for step in steps]]
        )


def test_numbers_are_those_of_the_configuration():
    folders = render(
        gpu("scaling.num_workers=16", "train.micro_batch_size=6", "deploy.image=r.example.com/m:2")
    )

    spec = as_cluster(named(folders, "RayJob", "mats-train"))["spec"]
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert groups["gpu"]["replicas"] == groups["gpu"]["maxReplicas"] == 2  # 16 workers on pods of 8 GPUs
    (container,) = groups["gpu"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
    images = {line.strip() for one in flat(folders) for line in to_yaml(one).splitlines() if "image:" in line}
    assert images == {"image: r.example.com/m:2", "image: redis:8.2.1-alpine"}


def test_head_and_drivers_take_no_tasks_and_every_cluster_has_a_token():
    for files in SHIPPED.values():
        for resource in flat(render(loaded(files))):
            if resource["apiVersion"] == "ray.io/v1":
                spec = as_cluster(resource)["spec"]
                assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
                assert spec["authOptions"] == {"mode": "token"}


def test_the_configuration_in_the_pods_is_the_one_that_was_rendered(tmp_path):
    config = gpu()
    data = named(render(config), "ConfigMap", "mats-config")["data"]
    (tmp_path / "run.yaml").write_text(data["run.yaml"])

    again = loaded([tmp_path / "run.yaml"])

    assert again == config.model_copy(update={"deploy": None})
    assert again.generation_override == config.generation_override
    assert arguments(named(render(config), "RayJob", "mats-train")).config == ["/etc/mats/run.yaml"]


@pytest.mark.parametrize(
    ("config", "overrides", "expected"),
    [
        (
            cpu,
            ["output_dir=out"],
            "output_dir = out is a path of one pod: use an s3:// path, or one on the volume, /mnt/mats/...",
        ),
        (
            cpu,
            ["deploy.volume=null"],
            "output_dir = /mnt/mats/toy is a path of one pod, and nodes share no disk: use an s3:// path",
        ),
        (cpu, ["output_dir=/mnt/mats/../etc"], "output_dir = /mnt/mats/../etc is a path of one pod"),
        (cpu, ["output_dir=/mnt/matsx"], "output_dir = /mnt/matsx is a path of one pod"),
        (
            cpu,
            ["output_dir=s3://bucket/x", "toy=null", "model.clap.ref=a/b", "model.llm.path=a/b"],
            "output_dir = s3://bucket/x needs access to S3: give deploy.s3",
        ),
        (
            gpu,
            ["output_dir=s3://YOUR-BUCKET/mats"],
            "output_dir = s3://YOUR-BUCKET/mats names no bucket: 'YOUR-BUCKET' is not 3 to 63 characters",
        ),
        (gpu, ["output_dir=s3:///mats"], "output_dir = s3:///mats names no bucket: ''"),
        (
            gpu,
            ["model.clap.ref=CLAP_weights_2023.pth"],
            "model.clap.ref = CLAP_weights_2023.pth is a path of one pod",
        ),
        (
            gpu,
            ["model.llm.path=s3://bucket/llm"],
            "model.llm.path = s3://bucket/llm is read from a folder, or a hub",
        ),
        (gpu, ["deploy.caption.audio=clips"], "deploy.caption.audio = clips is a path of one pod"),
        (
            gpu,
            ["deploy.gpu=null"],
            "embed runs on GPUs (data.embed.concurrency), and no pod asks for any: give deploy.gpu",
        ),
        (
            cpu,
            ["deploy.gpu={cpus: 8, memory_gb: 64, gpus: 1, max_pods: 1}"],
            "deploy.gpu starts pods with GPUs that nothing uses",
        ),
        (
            gpu,
            ["scaling.num_workers=48", "train.micro_batch_size=2"],
            "train needs 6 pods of the group gpu (scaling.num_workers=48), deploy.gpu.max_pods is 4",
        ),
        (
            gpu,
            ["scaling.cpus_per_worker=100"],
            "train: one actor of scaling.num_workers asks for 100 CPUs and 1 GPUs, a pod of the group gpu",
        ),
        (cpu, ["serve.api_keys_file=/etc/keys"], "serve.api_keys_file = /etc/keys is a file of one pod"),
    ],
)
def test_what_cannot_run_there_is_refused_in_one_line(config, overrides, expected):
    with pytest.raises(ConfigError) as error:
        render(config(*overrides))

    assert str(error.value).startswith(expected)
    assert "\n" not in str(error.value)


def test_a_configuration_without_the_section_is_refused():
    with pytest.raises(ConfigError, match=r"has no section deploy: give at least deploy\.image"):
        render(cpu("deploy=null"))


def test_no_secret_of_the_environment_is_written(monkeypatch, tmp_path):
    secrets = {
        "AWS_ACCESS_KEY_ID": "AKIAABCDEFGHIJKLMNOP",
        "AWS_SECRET_ACCESS_KEY": "verysecretvalue/of/aws",
        "MATS_API_KEYS": "alice:verysecretkey",
        "HF_TOKEN": "hf_verysecrettokenofthehub",
        "RAY_AUTH_TOKEN": "verysecrettoken",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    access = ["--set", "deploy.s3.role_arn=null", "--set", "deploy.s3.secret=my-s3"]
    configs = [word for name in GPU for word in ("--config", name)]

    assert main(["deploy", "render", *configs, *access, "--out", str(tmp_path)]) == 0

    written = "".join(path.read_text() for path in tmp_path.rglob("*.yaml"))
    assert "my-s3" in written
    assert not [value for value in secrets.values() if value in written]


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("output_dir", "s3://key:secret@bucket/x", "a password in a URL"),
        ("deploy.caption.out", "s3://AKIAABCDEFGHIJKLMNOP/x", "an AWS key"),
        ("model.llm.path", "https://host/file?X-Amz-Signature=abc", "a signed URL"),
        ("deploy.evaluate.judge", "gpt@https://host/v1/sk-abcdefghijklmnopqrst", "an API key"),
    ],
)
def test_a_secret_in_the_configuration_is_refused_and_not_repeated(key, value, what):
    with pytest.raises(ConfigError) as error:
        render(gpu(f"{key}={value}"))

    assert str(error.value) == (
        f"{key} holds {what}, and manifests hold no secrets: keep it in a Secret (docs/deployment.md)"
    )


def test_no_resource_is_a_secret():
    for files in SHIPPED.values():
        assert "Secret" not in {one["kind"] for one in flat(render(loaded(files)))}


def test_rendering_needs_no_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert render(cpu())
    assert list(Path().iterdir()) == []
