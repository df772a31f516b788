"""``mats embed``: triplets to embedded triplets."""

import argparse

from mats_ray.cli.args import add_config_arguments, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Embed every distinct text once.

    Raises:
        MATSError: The triplets or the CLAP cannot be used.
    """
    config = config_of(args)
    from mats_ray.cli.on_ray import cluster
    from mats_ray.data.embedding.on_ray import embed

    args.build_inputs(config)
    summary = embed(config, cluster=cluster)
    print(
        f"{summary.num_rows} rows, {summary.num_texts} distinct texts, {summary.num_encoded} of them "
        f"embedded now: {summary.path}"
    )
    return 0
