"""``mats memory``: embedded triplets to a Santa memory."""

import argparse

from mats_ray.cli.args import add_config_arguments, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Draw, noise and cluster text embeddings.

    Raises:
        MATSError: There are no embedded triplets.
    """
    config = config_of(args)
    from mats_ray.data.santa_memory import build_memory

    memory = build_memory(config)
    rows, clusters = len(memory.embeddings_NC), len(memory.centroids_KC)
    print(f"{rows} texts in {clusters} clusters: {config.memory_path}")
    return 0
