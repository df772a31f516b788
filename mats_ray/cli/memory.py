"""``mats memory``: what the model's bridge needs: a Santa memory of texts, or the state of another bridge."""

import argparse

from mats_ray.cli.args import add_config_arguments, config_of

EPILOG = """\
Examples:
  mats memory --config run.yaml                                   texts, noised and clustered, for Santa
  mats memory --config run.yaml --set model.bridge=projection     texts without noise
  mats memory --config run.yaml --set model.bridge=mean_shift --set memory.audio=clips/
  mats memory --config run.yaml --set model.bridge=spectral --set memory.pairs=pairs.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Build the state of ``model.bridge``.

    Raises:
        MATSError: There are no embedded triplets; or the bridge needs audio or pairs, and has none.
    """
    config = config_of(args)
    from mats_ray.data.bridge_state import build_state

    print(f"{build_state(config)}: {config.memory_path}")
    return 0
