"""What a server in the foreground needs of its machine: a free port, and a way to end."""

import signal
import socket
import threading

from mats_ray.errors import ConfigError


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


def wait_for_signal() -> None:
    """Sleep until Ctrl-C or SIGTERM; a second one while cleaning up acts as usual."""
    came = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: came.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        came.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
