"""``mats describe``: sentences for labels from a chat model the user runs."""

import argparse
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--labels", type=Path, required=True, metavar="FILE", help="one label per line")
    parser.add_argument(
        "--endpoint", required=True, metavar="URL", help="for example http://localhost:8000/v1"
    )
    parser.add_argument("--model", required=True, help="name of the model at the endpoint")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="JSONL", help="labels in it are not requested again"
    )
    parser.add_argument("--count", type=int, default=50, help="sentences per label (default 50)")
    parser.add_argument("--api-key-env", metavar="NAME", help="environment variable that holds a key")


def run(args: argparse.Namespace) -> int:
    """Request sentences for every label that is missing.

    Raises:
        MATSError: The labels cannot be read, or the endpoint fails.
    """
    from mats_ray.data.prepare.label_descriptions import Endpoint, describe
    from mats_ray.errors import ConfigError

    key = os.environ.get(args.api_key_env) if args.api_key_env else None
    if args.api_key_env and not key:
        raise ConfigError(f"the environment variable {args.api_key_env} is not set")
    try:
        labels = args.labels.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{args.labels} cannot be read: {error}") from error
    num_labels = describe(labels, Endpoint(args.endpoint, args.model, key), args.out, count=args.count)
    print(f"{num_labels} labels described: {args.out}")
    return 0
