"""What cluster.yaml costs per hour."""

import copy

import pytest
import yaml

from mats_ray.deploy.hourly import hourly_cost
from mats_ray.errors import ConfigError
from mats_ray.train.plan import GPUS
from tests.unit.deploy.configs import ROOT

CLUSTER = yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_the_shipped_cluster():
    cost = hourly_cost(CLUSTER)

    node = 8 * GPUS["a100-40"].dollars_per_hour
    assert cost.idle == pytest.approx(0.77)
    assert cost.full == pytest.approx(0.77 + 4 * node + 4 * 1.54)
    assert cost.spot == ("gpu", "cpu")
    assert str(cost).startswith("$0.77 an hour idle, $102.93 with all workers (a rounded price")
    assert str(cost).endswith("; less for gpu, cpu, which are spot")


def test_the_limit_over_all_types_holds():
    cluster = copy.deepcopy(CLUSTER) | {"max_workers": 5}

    assert hourly_cost(cluster).full == pytest.approx(0.77 + 4 * 24 + 1.54)


def test_workers_that_are_kept_cost_while_idle():
    cluster = copy.deepcopy(CLUSTER)
    cluster["available_node_types"]["cpu"]["min_workers"] = 2

    assert hourly_cost(cluster).idle == pytest.approx(0.77 + 2 * 1.54)


def test_an_unknown_price_is_not_guessed():
    cluster = copy.deepcopy(CLUSTER)
    cluster["available_node_types"]["gpu"]["node_config"]["InstanceType"] = "x9.huge"

    with pytest.raises(ConfigError, match=r"node type gpu: no price of 'x9\.huge' is known here"):
        hourly_cost(cluster)


@pytest.mark.parametrize("cluster", [{}, {"available_node_types": {}, "head_node_type": "head"}])
def test_what_is_no_cluster_is_refused(cluster):
    with pytest.raises(ConfigError, match="has no available_node_types"):
        hourly_cost(cluster)
