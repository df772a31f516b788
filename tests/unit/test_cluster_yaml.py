"""cluster.yaml is valid for its readers: Ray's schema and bootstrap, EC2's API (moto)."""

import copy
import importlib.metadata
import os
import re
from pathlib import Path

import boto3
import pytest
import yaml
from botocore.exceptions import ParamValidationError
from jsonschema import ValidationError
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.node_launch_exception import NodeLaunchException

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "cluster.yaml").read_text()


@pytest.fixture
def cluster():
    return yaml.safe_load(TEXT)


def validate(cluster):
    validate_config(prepare_config(copy.deepcopy(cluster)))


@pytest.fixture
def ec2(monkeypatch, tmp_path):
    """Bootstrap a cluster and start one node of each type, as `ray up` does; returns what EC2 then shows."""
    monkeypatch.setenv("HOME", str(tmp_path))  # the key pair is written to ~/.ssh
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with mock_aws():
        boto3.client("iam").create_instance_profile(InstanceProfileName="mats-ray")

        def start(cluster):
            config = bootstrap_aws(prepare_config(copy.deepcopy(cluster)))
            provider = AWSNodeProvider(config["provider"], config["cluster_name"])
            return {
                name: next(iter(provider.create_node(node_type["node_config"], {}, 1).values()))
                for name, node_type in config["available_node_types"].items()
            }

        yield start


def test_ray_accepts_the_file(cluster):
    validate(cluster)


@pytest.mark.parametrize(
    ("path", "wrong", "complaint"),
    [
        pytest.param(("idle_timeout_minuts",), 15, "'idle_timeout_minuts' was unexpected", id="misspelt"),
        pytest.param(
            ("available_node_types", "gpu", "min_worker"),
            0,
            "'min_worker' was unexpected",
            id="misspelt in a node type",
        ),
        pytest.param(("auth", "ssh_usr"), "ubuntu", "'ssh_usr' was unexpected", id="misspelt in auth"),
        pytest.param(("max_workers",), "eight", "'eight' is not of type 'integer'", id="wrong type"),
        pytest.param(("head_node_type",), "haed", "head_node_type", id="head of no known type"),
        pytest.param(
            ("available_node_types", "gpu", "min_workers"),
            99,
            "smaller than the sum of `min_workers`",
            id="more nodes than the limit",
        ),
    ],
)
def test_ray_refuses_what_is_wrong(cluster, path, wrong, complaint):
    section = cluster
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = wrong

    with pytest.raises((ValidationError, ValueError), match=complaint):
        validate(cluster)


def test_ec2_starts_every_node_type(cluster, ec2):
    nodes = ec2(cluster)

    assert {name: node.instance_type for name, node in nodes.items()} == {
        "head": "m6i.4xlarge",
        "gpu": "p4d.24xlarge",
        "cpu": "m6i.8xlarge",
    }
    assert all(node.iam_instance_profile["Arn"].endswith("/mats-ray") for node in nodes.values())


def test_ec2_starts_gpu_nodes_with_the_commented_efa_interfaces(ec2):
    network = boto3.client("ec2", region_name="us-west-2")
    subnet = network.describe_subnets()["Subnets"][0]
    group = network.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    block = re.search(r"^ +# NetworkInterfaces:\n(?: +#   - .*\n)+", TEXT, re.MULTILINE).group()
    live = re.sub(r"^( +)# ", r"\1", block, flags=re.MULTILINE)
    live = live.replace("subnet-...", subnet["SubnetId"]).replace("sg-...", group)
    cluster = yaml.safe_load(TEXT.replace(block, live))

    validate(cluster)
    node = ec2(cluster)["gpu"]

    assert node.instance_type == "p4d.24xlarge"
    interfaces = cluster["available_node_types"]["gpu"]["node_config"]["NetworkInterfaces"]
    assert [interface["NetworkCardIndex"] for interface in interfaces] == [0, 1, 2, 3]


def test_ec2_refuses_a_misspelt_node_config(cluster, ec2):
    node_config = cluster["available_node_types"]["gpu"]["node_config"]
    node_config["InstanceTyp"] = node_config.pop("InstanceType")

    with pytest.raises(ParamValidationError, match="InstanceTyp"):
        ec2(cluster)


def test_ec2_refuses_a_profile_that_does_not_exist(cluster, ec2):
    cluster["available_node_types"]["gpu"]["node_config"]["IamInstanceProfile"] = {"Name": "forgotten"}

    with pytest.raises(NodeLaunchException, match="forgotten"):
        ec2(cluster)


def test_workers_are_spot_and_the_head_is_not_and_has_no_gpu(cluster):
    types = cluster["available_node_types"]

    assert {name for name, one in types.items() if "InstanceMarketOptions" in one["node_config"]} == {
        "gpu",
        "cpu",
    }
    assert "GPU" not in types[cluster["head_node_type"]]["resources"]


def test_no_key_of_a_person_reaches_a_node(cluster):
    assert all(one["node_config"]["IamInstanceProfile"] for one in cluster["available_node_types"].values())
    assert "AWS_SECRET" not in TEXT


def test_every_key_is_explained():
    lines = TEXT.splitlines()
    silent = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(lines, start=1)
        if re.match(r"\s*(- )?[\w./~]+:( |$)", line)
        and "#" not in line
        and not lines[number - 2].strip().startswith("#")
        # A section needs no comment where its keys have one.
        and not lines[number].strip().startswith("#")
    ]

    assert not silent


def test_every_node_requires_the_same_token(cluster):
    assert "/home/ubuntu/.ray/auth_token" in cluster["file_mounts"]
    assert any("RAY_AUTH_MODE=token" in command for command in cluster["initialization_commands"])


def test_nodes_install_the_lock_and_so_the_ray_of_this_repository(cluster):
    mounted = [remote for remote, local in cluster["file_mounts"].items() if local == "requirements.lock"]
    locked = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE).group(1)

    assert [Path(remote).name for remote in mounted] == ["requirements.lock"]
    assert any("-r ~/requirements.lock" in command for command in cluster["setup_commands"])
    assert locked == importlib.metadata.version("ray")


def test_head_and_workers_start_from_one_image(cluster):
    types = cluster["available_node_types"].values()

    assert len({node_type["node_config"]["ImageId"] for node_type in types}) == 1
