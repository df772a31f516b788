"""``mats embed``: triplets to embedded triplets; the noise that a CLAP asks for."""

import argparse
from typing import TYPE_CHECKING

from mats_ray.cli.args import add_config_arguments, config_of

if TYPE_CHECKING:
    from mats_ray.config import RunConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_config_arguments(parser)
    parser.add_argument(
        "--estimate-noise",
        action="store_true",
        help="print the noise variance that captions of one clip ask for, by source, and embed nothing",
    )


def run(args: argparse.Namespace) -> int:
    """Embed every distinct text once, or print what captions of one clip say of the noise variance.

    Raises:
        MATSError: The triplets or the CLAP cannot be used.
    """
    config = config_of(args)
    if args.estimate_noise:
        return _estimate_noise(args, config)
    from mats_ray.cli.on_ray import cluster
    from mats_ray.data.embedding.on_ray import embed

    args.build_inputs(config)
    summary = embed(config, cluster=cluster)
    print(
        f"{summary.num_rows} rows, {summary.num_texts} distinct texts, {summary.num_encoded} of them "
        f"embedded now: {summary.path}"
    )
    return 0


def _estimate_noise(args: argparse.Namespace, config: "RunConfig") -> int:
    from mats_ray.data.embedding.noise_variance import estimate_of, table

    args.build_inputs(config)
    print(table(estimate_of(config, config.triplets_path)))
    return 0
