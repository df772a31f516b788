"""What a ``cluster.yaml`` costs per hour: idle, and with all its workers, at prices on demand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mats_ray.errors import ConfigError
from mats_ray.train.plan import GPUS, PRICES_FROM

INSTANCES = {
    "m6i.4xlarge": (0, "", 0.77),
    "m6i.8xlarge": (0, "", 1.54),
    "p4d.24xlarge": (8, "a100-40", 0.0),
    "p4de.24xlarge": (8, "a100-80", 0.0),
    "p5.48xlarge": (8, "h100-80", 0.0),
    "p5en.48xlarge": (8, "h200-141", 0.0),
    "g6.12xlarge": (4, "l4", 0.0),
    "g6e.12xlarge": (4, "l40s", 0.0),
    "g5.12xlarge": (4, "a10g", 0.0),
}
"""GPUs of an EC2 instance, their name in ``GPUS``; dollars per hour of one without (``PRICES_FROM``)."""


@dataclass(frozen=True, slots=True)
class HourlyCost:
    """Dollars per hour on demand."""

    idle: float
    """The head, and workers that are kept."""
    full: float
    """The head and every worker that may be started."""
    spot: tuple[str, ...]
    """Types whose nodes are bought on the spot market, for less than is counted here."""

    def __str__(self) -> str:
        """Return one line."""
        spot = f"; less for {', '.join(self.spot)}, which are spot" if self.spot else ""
        return f"${self.idle:.2f} an hour idle, ${self.full:.2f} with all workers ({PRICES_FROM}){spot}"


def hourly_cost(cluster: Mapping[str, Any]) -> HourlyCost:
    """Add up the nodes of a cluster for ``ray up``.

    Raises:
        ConfigError: It has no node types, or an instance type without a known price.
    """
    types, head = cluster.get("available_node_types"), str(cluster.get("head_node_type"))
    if not isinstance(types, dict) or head not in types:
        raise ConfigError("the cluster has no available_node_types, or no head_node_type among them")
    idle = full = _price(head, types[head])
    workers: list[float] = []
    spot: list[str] = []
    for name, node in types.items():
        if name == head:
            continue
        price = _price(name, node)
        idle += price * node.get("min_workers", 0)
        workers += [price] * min(node.get("max_workers", 0), cluster.get("max_workers", 0))
        if "InstanceMarketOptions" in node["node_config"]:
            spot.append(name)
    # no more than the limit over all types, the dearest first
    full += sum(sorted(workers, reverse=True)[: cluster.get("max_workers", 0)])
    return HourlyCost(idle=idle, full=full, spot=tuple(spot))


def _price(name: str, node: Mapping[str, Any]) -> float:
    instance = node.get("node_config", {}).get("InstanceType")
    if instance not in INSTANCES:
        raise ConfigError(
            f"node type {name}: no price of {instance!r} is known here, only of {', '.join(INSTANCES)}"
        )
    gpus, gpu, price = INSTANCES[instance]
    return gpus * GPUS[gpu].dollars_per_hour if gpus else price
