"""compose.yaml: valid by the specification, every file and service there, nothing open to other machines."""

import re
import subprocess

import pytest
import yaml
from compose_spec import PyCompose
from ray.serve.schema import ServeDeploySchema

from mats_ray.config.base import validate
from mats_ray.config.serve import ServeConfig
from tests.dockerfile import ROOT

TEXT = (ROOT / "compose.yaml").read_text()
TREE = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", TEXT))  # variables have their defaults
SERVICES = TREE["services"]
GIB = 2**30
SCRIPTS = sorted((ROOT / "deploy/compose").glob("*.sh"))


def read(tree):
    """Read as the specification says, merges done."""
    return PyCompose.from_yaml(yaml.safe_dump(tree))


def test_it_is_valid_by_the_specification():
    assert set(read(TREE).service_names()) == set(SERVICES)


@pytest.mark.parametrize(
    ("old", "new"),
    [("depends_on:", "depends_onn:"), ("condition: service_healthy", "condition: service_healty")],
)
def test_a_misspelt_word_is_found(old, new):
    with pytest.raises(Exception, match=r".+"):
        read(yaml.safe_load(yaml.safe_dump(TREE).replace(old, new)))


def test_everything_of_the_issue_is_there():
    assert {"head", "worker", "service", "minio", "prometheus", "grafana"} <= SERVICES.keys()


def test_ports_are_open_to_this_machine_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert len(ports) == 6
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_have_versions():
    images = [service["image"] for service in SERVICES.values()]

    assert all(re.search(r":[\w.-]+$", image) and not image.endswith(":latest") for image in images)


def test_services_that_are_waited_for_can_be():
    for name, service in SERVICES.items():
        needed = service.get("depends_on", {})
        for other in needed:
            assert other in SERVICES, (name, other)
            if isinstance(needed, dict) and needed[other]["condition"] == "service_healthy":
                checked = SERVICES[other].get("healthcheck", {})
                assert checked.get("test") or SERVICES[other]["image"].startswith("mats-ray"), other


def test_mounted_files_and_commands_are_there():
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in TREE["volumes"]
        for word in " ".join(map(str, service["command"])).split() if "command" in service else []:
            if word.startswith("deploy/"):
                assert (ROOT / word).is_file()


def test_no_secret_is_written_down():
    environment = {**TREE["x-ray"]["environment"], **SERVICES["minio"]["environment"]}
    secret = {
        name: value
        for name, value in environment.items()
        if re.search("TOKEN|PASSWORD|USER|CREDENTIALS", name)
    }

    assert len(secret) == 4
    assert all(value.startswith("/run/mats/") for value in secret.values())


def test_prometheus_reads_every_ray_node_and_grafana_reads_prometheus():
    scrapes = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    (ray,) = [one for one in scrapes if one["job_name"] == "ray"]
    (names,) = ray["dns_sd_configs"]
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text())

    assert set(names["names"]) == {"head", "worker", "service"} <= SERVICES.keys()
    for name in names["names"]:
        command = " ".join(SERVICES[name]["command"]).replace(
            "deploy/compose/serve.sh", (ROOT / "deploy/compose/serve.sh").read_text()
        )
        assert f"--metrics-export-port={names['port']}" in command
    assert source["datasources"][0]["url"] == "http://prometheus:9090"


def test_our_dashboard_is_provisioned():
    provider = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/mats.yaml").read_text())[
        "providers"
    ][0]

    assert (
        f"./deploy/grafana/mats.json:{provider['options']['path']}/mats.json:ro"
        in SERVICES["grafana"]["volumes"]
    )


def test_the_service_is_one_that_serve_deploys():
    tree = yaml.safe_load((ROOT / "deploy/compose/service.yaml").read_text())
    (application,) = ServeDeploySchema(**tree).applications

    config = validate(ServeConfig, application.args, where="args")
    assert config.api_keys_file == "/run/mats/api_keys"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_shell(script):
    shell = "bash" if "bash" in script.read_text().splitlines()[0] else "sh"

    assert subprocess.run([shell, "-n", script], check=False).returncode == 0


def test_secrets_are_drawn_once(tmp_path):
    def draw():
        subprocess.run(["sh", ROOT / "deploy/compose/keys.sh", tmp_path], check=True)
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    first = draw()

    assert first.keys() == {"minio_user", "minio_password", "ray_token", "api_keys", "aws"}
    assert first["minio_password"] in first["aws"]
    assert len(first["ray_token"]) == 48
    assert first == draw()


def test_every_object_store_fits_into_the_shared_memory_of_its_container():
    for name in ("head", "worker", "service"):
        start = " ".join(SERVICES[name]["command"])
        if name == "service":
            start = (ROOT / "deploy/compose/serve.sh").read_text()
        (store,) = re.findall(r"ray start .*--object-store-memory=(\d+)", start)
        (shared,) = re.fullmatch(r"(\d+)gb", SERVICES[name]["shm_size"]).groups()

        assert GIB < int(store) < int(shared) * GIB


def test_prometheus_reads_our_alerts():
    names = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["rule_files"]
    mounted = dict(one.split(":")[:2] for one in SERVICES["prometheus"]["volumes"])

    assert names == ["alerts.yaml"]
    assert mounted["./deploy/prometheus/alerts.yaml"] == "/etc/prometheus/alerts.yaml"
    assert mounted["./deploy/prometheus/prometheus.yml"] == "/etc/prometheus/prometheus.yml"


def test_only_folders_and_secrets_are_handed_over_at_each_start():
    command = SERVICES["keys"]["command"][-1]

    assert command.endswith("chown 1000:100 /mnt/mats /run/mats /run/mats/*")
