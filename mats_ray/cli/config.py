"""``mats config show|validate``: what a configuration resolves to, or whether it is valid."""

import argparse

from mats_ray.cli.args import add_config_arguments, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", choices=["show", "validate"], help="print it resolved, or check it")
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the resolved YAML, or that the configuration is valid.

    Raises:
        ConfigError: It is not valid; one line names key, value and what is allowed.
    """
    config = config_of(args)
    print(config.to_yaml() if args.action == "show" else f"{', '.join(args.config)}: valid")
    return 0
