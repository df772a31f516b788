"""The ``mats`` command: a table of subcommands, each imported only when it is called.

Exit codes: 0 done, 1 the run failed, 2 bad usage or configuration, 130 interrupted, 141 stdout is closed.
Results go to stdout, logs and progress to stderr; an error's last line names the cause in the user's words.
"""

import argparse
import importlib
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mats_ray.errors import MATSError
from mats_ray.version import __version__

if TYPE_CHECKING:
    from mats_ray.config import RunConfig

COMMANDS = {
    "demo": "the whole loop on this machine: build, train on text, caption audio, report",
    "prepare": "turn published annotation files into triplets",
    "describe": "have a chat model you run write sentences for labels",
    "embed": "embed triplets with CLAP",
    "memory": "build the Santa memory from embedded triplets, or the state of another bridge",
    "train": "train mapper and language model",
    "caption": "caption or question every file of a folder or bucket",
    "evaluate": "answer and score published benchmarks; score again, compare",
    "ask": "ask one question about one file, or have it described",
    "serve": "answer over HTTP",
    "convert": "turn published checkpoints into directories this package loads",
    "config": "show or validate a configuration",
    "rehearse": "run every stage of a configuration on stand-ins of its pretrained parts",
    "plan": "what a run will need on given GPUs, by arithmetic",
    "deploy": "write the Kubernetes resources of a configuration",
    "doctor": "check this machine: versions, devices, write access",
}
TOY_INPUTS = {"embed": "ensure_texts", "train": "ensure_training_data"}
"""Functions of ``mats_ray.toy.world`` that build what a command needs and a toy section only describes.

A command gets its function as ``args.build_inputs``; its own module, and all below, know of no toy world.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    # or what a cluster says of itself is among the results on stdout; read when ray is imported
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")
    parser = build_parser(argv)
    args = parser.parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("httpx", "openai", "ray.data", "ray.train", "transformers"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)  # warns of folders without a revision
    # sets its level, and prints to stdout, when it is imported, which happens wherever transformers is
    logging.getLogger("DeepSpeed").addFilter(_is_error)
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # its cache "may take a moment"
    try:
        code = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_has_gone():
            raise
        return 128 + signal.SIGPIPE  # as a program that the signal ends
    except MATSError as error:
        print(f"mats {args.command}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"mats {args.command}: interrupted", file=sys.stderr)
        return 130
    return code


def _reader_has_gone() -> bool:
    """Whether nobody reads stdout any more (``mats ... | head``); what is left to print is discarded then."""
    stdout = select.poll()
    stdout.register(sys.stdout.fileno())
    if not any(event & select.POLLERR for _, event in stdout.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser of the command that the arguments name; of the others it knows the names alone."""
    parser = argparse.ArgumentParser(prog="mats", description="MATS on Ray: audio language models from text.")
    parser.add_argument("--version", action="version", version=f"mats_ray {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in argv if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == chosen:
            module = importlib.import_module(f"mats_ray.cli.{name}")
            command.epilog = getattr(module, "EPILOG", None)
            module.add_arguments(command)
            command.set_defaults(run=module.run, build_inputs=_input_builder(name))
    return parser


def _input_builder(command: str) -> "Callable[[RunConfig], None]":
    def build(config: "RunConfig") -> None:
        if config.toy is not None:
            getattr(importlib.import_module("mats_ray.toy.world"), TOY_INPUTS[command])(config)

    return build
