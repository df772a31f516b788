"""The arguments every command that runs something shares: ``--config`` and ``--set``."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mats_ray.config import RunConfig


def add_config_arguments(
    parser: argparse.ArgumentParser, *, required: bool = True, example: str = "train.num_steps=100"
) -> None:
    """Declare ``--config`` and ``--set``, both repeatable.

    Args:
        parser: Parser of one command.
        required: The command can do nothing without a configuration.
        example: A value that this command's users may change.
    """
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        required=required,
        metavar="YAML",
        help="configuration; later ones win",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help=f"change one value, for example {example}; repeatable",
    )


def config_of(args: argparse.Namespace) -> "RunConfig":
    """Load the configuration the arguments name.

    Raises:
        ConfigError: See ``load_config``.
    """
    from mats_ray.config import load_config

    return load_config(args.config, args.overrides)
