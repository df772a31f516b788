"""``mats train``: embedded triplets to a model directory."""

import argparse
from functools import partial

from mats_ray.cli.args import add_config_arguments, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train, or resume from the last checkpoint of the run.

    Raises:
        MATSError: Inputs are missing or the run failed.
    """
    config = config_of(args)
    from mats_ray.cli.on_ray import cluster
    from mats_ray.train.inputs import check_checkpoints
    from mats_ray.train.on_ray import train

    check_checkpoints(config)  # first: inputs built for another seed would replace those of the run
    start_ray = partial(cluster, training=True)
    if config.toy is None:
        result = train(config, cluster=start_ray)
    else:
        with start_ray():
            args.build_inputs(config)
            result = train(config)
    print(f"model:      {result.model}")
    print(f"checkpoint: {result.checkpoint}")
    print(f"metrics:    {result.metrics}")
    print(f"loss {result.final_loss:.4f} at step {result.steps}")
    return 0
