"""The arguments every command that runs something shares: ``--config`` and ``--set``."""

import argparse

from mats_ray.config import RunConfig, load_config


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``--config`` (required, repeatable) and ``--set`` (repeatable)."""
    parser.add_argument(
        "--config", action="append", required=True, metavar="YAML", help="configuration; later ones win"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one value, for example train.num_steps=100; repeatable",
    )


def config_of(args: argparse.Namespace) -> RunConfig:
    """Load the configuration the arguments name.

    Raises:
        ConfigError: See ``load_config``.
    """
    return load_config(args.config, args.overrides)
