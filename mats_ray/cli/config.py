"""``mats config show|validate``: what a configuration resolves to, or whether it is valid."""

import argparse

from mats_ray.cli.args import add_config_arguments, config_of

DEFAULTS = """\
# The defaults. A configuration holds only what it changes, and must name model.clap.ref and model.llm.path;
# or it has a section toy, at least `toy: {}`, and both are built. mats_ray/config/ explains every key."""
EPILOG = """\
  mats config show                                      the defaults
  mats config show --config configs/toy.yaml --set seed=1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", choices=["show", "validate"], help="print it resolved, or check it")
    add_config_arguments(parser, required=False)


def run(args: argparse.Namespace) -> int:
    """Print the resolved YAML, without arguments the defaults, or that the configuration is valid.

    Raises:
        ConfigError: It is not valid; one line names key, value and what is allowed.
    """
    if args.action == "show" and not args.config and not args.overrides:
        from mats_ray.config import RunConfig

        print(f"{DEFAULTS}\n{RunConfig.model_construct().to_yaml()}")
        return 0
    config = config_of(args)
    print(config.to_yaml() if args.action == "show" else f"{', '.join(args.config)}: valid")
    return 0
