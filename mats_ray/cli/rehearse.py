"""``mats rehearse``: a shipped configuration from annotations to answers, on stand-ins."""

import argparse
import sys
from pathlib import Path

from mats_ray.cli.args import add_config_arguments
from mats_ray.errors import ConfigError, RehearsalError

EPILOG = """\
Examples, in the root of a checkout of the repository:
  mats rehearse --config configs/mats_gpt2.yaml
  mats rehearse --config configs/mats_llama_7b.yaml --scale layers=2

Stand-ins have the published names, shapes and types, and weights that mean nothing: what is rehearsed is that
every stage runs, how long it takes, and what it needs beside what `mats plan` says.
"""
MOST_STEPS, MOST_LAYERS = 1_000, 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_config_arguments(parser)
    parser.add_argument(
        "--scale",
        default="full",
        metavar="full|layers=N",
        help="size of the language model: as published, or with its first N layers (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, default=4, metavar="N", help="training steps, at least 2 (default: %(default)s)"
    )
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="only load the model as before its first step and ask it once: for one too large to train here",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder (default: out/rehearsal/NAME)")


def run(args: argparse.Namespace) -> int:
    """Rehearse and print the tables; where a stage failed, those of the stages before it.

    Raises:
        MATSError: The configuration cannot be rehearsed, or a stage failed.
    """
    num_layers = _num_layers(args.scale)
    if not 2 <= args.steps <= MOST_STEPS:
        raise ConfigError(f"--steps {args.steps} must be from 2 to {MOST_STEPS}")
    from mats_ray.config.run import load_config
    from mats_ray.rehearsal.report import report_lines
    from mats_ray.rehearsal.run import Size, rehearse

    out = args.out or Path("out/rehearsal") / load_config(args.config, args.overrides).name
    found = rehearse(
        args.config,
        args.overrides,
        size=Size(num_layers=num_layers, num_steps=args.steps, untrained=args.untrained),
        out=out,
        announce=lambda line: print(line, file=sys.stderr, flush=True),
    )
    lines = "\n".join(report_lines(found.changes, found.stages, found.comparisons))
    (out / "rehearsal.md").write_text(lines + "\n", "utf-8")
    print(lines)
    if found.failure:
        raise RehearsalError(found.failure)
    return 0


def _num_layers(scale: str) -> int | None:
    if scale == "full":
        return None
    name, _, number = scale.partition("=")
    if (
        name != "layers"
        or not number.isascii()
        or not number.isdigit()
        or not 1 <= int(number) <= MOST_LAYERS
    ):
        raise ConfigError(f"--scale {scale} must be full or layers=N, N from 1 to {MOST_LAYERS}")
    return int(number)
