"""``mats demo``: the whole loop on this machine."""

import argparse
from typing import Any

from mats_ray.cli.args import add_config_arguments, config_of
from mats_ray.errors import ConfigError

EPILOG = """\
Examples:
  mats demo --config configs/toy.yaml
  mats demo --config configs/toy.yaml --no-compare             # the method alone
  mats demo --config configs/toy.yaml --set seed=1 --set output_dir=out/seed1

An interrupted demo goes on where it was when the same command is given again.
"""
DURATION = "the report in about 4 minutes, the comparisons 4 later (two idle cores)"
"""Measured: benchmarks/demo.md."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_config_arguments(parser)
    parser.add_argument("--clips", type=int, metavar="N", help="clips of each test set (default: 200)")
    parser.add_argument(
        "--no-compare",
        action="store_true",
        help="the method's own result only, without the systems beside it",
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo and print its results.

    Raises:
        MATSError: A stage failed.
    """
    config = config_of(args)
    if config.toy is None:
        raise ConfigError("the demo needs a configuration with a toy section, for example configs/toy.yaml")
    if config.bridge not in ("santa", "none"):
        raise ConfigError(
            f"the demo measures Santa, and model.bridge is {config.bridge!r}; benchmarks/demo_bridges.py "
            "compares bridges on a finished demo"
        )
    if args.clips is not None:
        args.overrides = [*args.overrides, f"toy.num_test_clips={args.clips}"]
        config = config_of(args)
    from mats_ray.toy.demo.stages import claim_folder
    from mats_ray.toy.demo.terminal import output_to

    log = claim_folder(config) / "log.txt"
    with output_to(log) as terminal:
        terminal.line(f"mats demo: {DURATION}. Details: {log}")
        from mats_ray.cli.on_ray import cluster
        from mats_ray.toy.demo.run import run_demo

        def first_result(metrics: dict[str, Any]) -> None:
            terminal.line(f"report: {config.output_dir}/report.html ({headline(metrics)})")

        with cluster(training=True):
            metrics = run_demo(
                config, announce=terminal.line, first_result=first_result, compare=not args.no_compare
            )
    print_results(metrics, config.output_dir, config.model_dir)
    return 0


def headline(metrics: dict[str, Any]) -> str:
    """The method's own result in a few words."""
    from mats_ray.toy.report.results import method_shares

    captions, questions = method_shares(metrics)
    return f"{captions} of captions name all sounds, {questions} of answers are right"


def print_results(metrics: dict[str, Any], out: str, model: str) -> None:
    """Print table, gap, comparisons, and where everything is."""
    from mats_ray.toy.report.results import (
        MEANINGS,
        against_five_seeds,
        comparisons,
        contradictions,
        five_seeds,
        gap_lines,
        results_table,
    )

    print(f"\n{results_table(metrics)}\n")
    for line in (*MEANINGS.values(), *comparisons(metrics), *against_five_seeds(metrics, five_seeds())):
        print(f"- {line}")
    print("\nThe modality gap of this CLAP:")
    for line in gap_lines(metrics):
        print(f"- {line}")
    found = contradictions(metrics)
    print("\nWhere this contradicts the paper:" + ("" if found else " nowhere"))
    for line in found:
        print(f"- {line}")
    print(
        f"\n{metrics['wall_seconds']['total']:.0f} s in all, peak memory {metrics['peak_memory_gb']:.1f} GB"
    )
    print(f"report: {out}/report.html   numbers: {out}/metrics.json   model: {model}")
    print(f"serve:  mats serve --model {model}")
    print(
        f'ask:    curl -F file=@{out}/audio/0000.wav -F question="Which sounds can be heard?" '
        "localhost:8000/v1/audio/questions"
    )
