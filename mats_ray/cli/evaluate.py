"""``mats evaluate``: answer and score published benchmarks, score again, compare."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mats_ray.cli.args import add_config_arguments
from mats_ray.cli.caption import start_ray
from mats_ray.errors import ConfigError

if TYPE_CHECKING:
    from mats_ray.config.evaluate import EvaluateConfig
    from mats_ray.evaluate.compare import Difference

EPILOG = """\
Examples:
  mats evaluate --model DIR --benchmark clotho --annotations clotho_captions_evaluation.csv \\
      --audio evaluation/ --out out/eval
  mats evaluate --config eval.yaml                      many benchmarks; see docs/evaluation.md
  mats evaluate --benchmark clotho --annotations clotho_captions_evaluation.csv \\
      --answers theirs.csv --out out/theirs
  mats evaluate --rescore out/eval                      scores again from the saved answers, no model
  mats evaluate --compare out/eval_a out/eval_b         paired, with intervals
  mats evaluate --list                                  the benchmarks

Answers, a log of samples, scores.json and report.html go to OUT. Run it again after a crash: it does what is
missing. Samples without audio, with audio that cannot be used, or with an empty answer count as wrong, and
are counted.
"""
_ONE = ("annotations", "audio", "answers", "verdicts")
_KEYS = ("model", "out", "prompt", "embedder", "judge")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_config_arguments(parser, required=False, example="caption.batch_size=64")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and what they read")
    parser.add_argument("--benchmark", metavar="NAME", help="evaluate one benchmark")
    parser.add_argument("--annotations", metavar="PATH", help="its annotation file, as published")
    parser.add_argument("--audio", metavar="PATH", help="folder or s3:// prefix of its audio")
    parser.add_argument("--answers", metavar="FILE", help="score these (columns id, answer), no model's")
    parser.add_argument("--verdicts", metavar="FILE", help="replies of a judge to the exported requests")
    parser.add_argument("--model", metavar="DIR", help="model directory")
    parser.add_argument("--rehearsal", action="store_true", help="evaluate a model of `mats rehearse`")
    parser.add_argument("--out", metavar="PATH", help="folder or s3:// prefix of all results")
    parser.add_argument(
        "--prompt",
        metavar="upstream_eval|none",
        help="with upstream's token of evaluation (default) or without",
    )
    parser.add_argument(
        "--embedder", metavar="REF",
        help="matches answers and labels: clap (default), a sentence-transformers model, or MODEL@URL",
    )  # fmt: skip
    parser.add_argument("--judge", metavar="MODEL@URL", help="OpenAI-compatible endpoint that judges answers")
    parser.add_argument("--rescore", metavar="OUT", help="score saved answers again")
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help="compare two evaluations, paired")


def run(args: argparse.Namespace) -> int:
    """Evaluate, score again, or compare, and print what is found.

    Raises:
        MATSError: See ``evaluate.run.evaluate``.
    """
    if args.list:
        return _list()
    if args.compare:
        from mats_ray.evaluate.compare import compare

        _print_differences(compare(*args.compare, embedder=args.embedder or "clap"), *args.compare)
        return 0
    if args.rescore:
        return _rescore(args)
    config = _config(args)
    from mats_ray.evaluate.run import evaluate

    evaluations = evaluate(config, cluster=start_ray)
    for out, found in evaluations.items():
        _report(found.results, out)
    first, *others = evaluations
    for out in others:
        _print_differences(evaluations[out].differences, out, first)
    return 0


def _print_differences(differences: "Sequence[Difference]", first: str, second: str) -> None:
    print(f"{first} less {second}:")
    for one in differences:
        print(f"  {one}")


def _rescore(args: argparse.Namespace) -> int:
    from mats_ray.evaluate.log import find_logs
    from mats_ray.evaluate.run import score_all

    logs = find_logs(args.rescore)
    _report(score_all(logs, embedder=args.embedder or "clap", judge=args.judge), args.rescore)
    return 0


def _report(results: dict[str, dict[str, Any]], out: str) -> None:
    from mats_ray.evaluate.report.page import write_report
    from mats_ray.evaluate.summary import summary_lines

    write_report(out)
    print("\n".join(summary_lines(results, out=out)))


def _list() -> int:
    from mats_ray.evaluate.benchmark import benchmark_names, find_benchmark

    for benchmark in map(find_benchmark, benchmark_names()):
        print(
            f"{benchmark.name}: {benchmark.title}, {benchmark.size} samples, {benchmark.split}; "
            f"reads {benchmark.reads}"
        )
    return 0


def _config(args: argparse.Namespace) -> "EvaluateConfig":
    """Assemble the configuration of YAML files, options, and ``--set``.

    Raises:
        ConfigError: One line with the key, its value and what is allowed.
    """
    from mats_ray.config.base import assemble, merge, read_yaml
    from mats_ray.config.evaluate import EvaluateConfig

    tree: dict[str, Any] = {}
    for one in args.config:
        tree = merge(tree, read_yaml(Path(one)))
    given = {name: getattr(args, name) for name in _ONE if getattr(args, name) is not None}
    if args.benchmark:
        tree["benchmarks"] = [{"name": args.benchmark, **given}]
    elif given:
        raise ConfigError(f"--{next(iter(given))} belongs to one benchmark: name it with --benchmark")
    elif not args.config:
        raise ConfigError("name a benchmark with --benchmark (--list shows them), or a --config; see --help")
    tree = merge(tree, {name: getattr(args, name) for name in _KEYS if getattr(args, name) is not None})
    tree |= {"rehearsal": True} if args.rehearsal else {}
    return assemble(EvaluateConfig, tree, args.overrides, sources=args.config)
