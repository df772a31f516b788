import os
import signal
import socket
import threading

import pytest

from mats_ray.errors import ConfigError
from mats_ray.serving.foreground import (
    check_loopback,
    check_port_is_free,
    last_words,
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


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("mats_ray.errors.ModelError: clap/ is cut off", "clap/ is cut off"),
        ("ImportError: no torch", "ImportError: no torch"),
    ],
)
def test_a_remote_traceback_comes_down_to_its_last_line(last, said):
    traceback = (
        f'Failed 3 times. Error:\nRuntimeError: Traceback:\n  File "a.py", line 1\n    f()\n{last}\n\n'
    )

    assert last_words(traceback) == said


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
