"""``mats serve``: the HTTP service on this machine."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from mats_ray.cli.args import add_config_arguments

EPILOG = """\
Example:
  mats serve --model out/demo/model
  curl -F file=@clip.wav -F question="Is there a dog?" http://127.0.0.1:8000/v1/audio/questions

On a cluster: serve run serve/config.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--model", metavar="DIR", help="model directory (default: the configuration's)")
    add_config_arguments(parser, required=False, example="serve.max_audio_seconds=60")
    parser.add_argument("--rehearsal", action="store_true", help="serve a model of `mats rehearse`")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        MATSError: A bad configuration, no model directory, a port in use; found before Ray starts.
    """
    from mats_ray.models.directory import read_info
    from mats_ray.models.stand_in import refuse_stand_ins
    from mats_ray.serving.foreground import (
        check_port_is_free,
        load_serve_config,
        put_haproxy_in_front,
        wait_for_signal,
    )
    from mats_ray.serving.http.authentication import KeyRing, check_loopback

    overrides = [*args.overrides, *(["serve.rehearsal=true"] if args.rehearsal else [])]
    config = load_serve_config(args.config, overrides, model=args.model)
    config = config.with_layout(cores=os.cpu_count() or 1)
    info = read_info(config.model)
    refuse_stand_ins(config.model, info.stand_ins, rehearsal=config.rehearsal)
    keys = KeyRing(file=config.api_keys_file, variable=config.api_keys_variable)
    if keys.is_open and not config.allow_anonymous:
        check_loopback(args.host)
    check_port_is_free(args.host, args.port)
    put_haproxy_in_front(os.environ)

    from mats_ray.serving.on_ray.deployments import local_server

    with local_server(config, host=args.host, port=args.port) as url:
        print(f"{info.model_id} answers at {url} (a page, too; {config.layout}); Ctrl-C ends it. Try:")
        print(f"  {example(url, model=config.model, needs_key=not keys.is_open)}", flush=True)
        wait_for_signal()
        seconds = config.request_timeout_seconds + config.stream_timeout_seconds
        print(
            f"stopping: requests in flight have up to {min(60, seconds):.0f} s", file=sys.stderr, flush=True
        )
    return 0


def example(url: str, *, model: str, needs_key: bool) -> str:
    """Return a request as a shell command: about a sound of the demo where its model is served."""
    sound = Path(model).expanduser().parent / "audio" / "0000.wav"
    file = shlex.quote(f"file=@{sound}") if sound.is_file() else "file=@clip.wav"
    key = '-H "Authorization: Bearer $KEY" ' if needs_key else ""
    command = f'curl {key}-F {file} -F question="Is there a dog?" {url}/v1/audio/questions'
    return f"{command}  # KEY: one of yours" if needs_key else command
