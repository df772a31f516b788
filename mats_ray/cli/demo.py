"""``mats demo``: the whole loop on this machine."""

import argparse
import sys

from mats_ray.cli.args import add_config_arguments, config_of
from mats_ray.errors import ConfigError

EPILOG = """\
Example:
  mats demo --config configs/toy.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the demo and print its table.

    Raises:
        MATSError: A stage failed.
    """
    config = config_of(args)
    if config.toy is None:
        raise ConfigError("the demo needs a configuration with a toy section, for example configs/toy.yaml")
    from mats_ray.cli.on_ray import cluster
    from mats_ray.toy.demo import run_demo
    from mats_ray.toy.report import results_table

    with cluster(training=True):
        metrics = run_demo(config, announce=lambda line: print(line, file=sys.stderr, flush=True))
    seconds, memory = metrics["wall_seconds"]["total"], metrics["peak_memory_gb"]
    print(results_table(metrics))
    print(f"\n{seconds:.0f} s in all, peak memory {memory:.1f} GB")
    print(f"report:  {config.output_dir}/report.html")
    print(f"numbers: {config.output_dir}/metrics.json")
    print(f"model:   {config.model_dir}")
    print("\nAsk it over HTTP:")
    print(f"  mats serve --model {config.model_dir}")
    print(
        f'  curl -F file=@{config.output_dir}/audio/0000.wav -F question="Which sounds can be heard?" '
        "localhost:8000/v1/audio/questions"
    )
    return 0
