"""``mats plan``: what a run will need on given GPUs, by arithmetic; nothing is loaded or started."""

import argparse
from typing import TYPE_CHECKING

from mats_ray.cli.args import add_config_arguments, config_of

if TYPE_CHECKING:
    from mats_ray.config import RunConfig
    from mats_ray.train.plan import Assumptions, Plan

EPILOG = """\
  mats plan --config configs/mats_llama_7b.yaml --gpu a100-80 --gpus 16
"""
BOUNDS = {
    "gpus": (1, 100_000),
    "tokens": (1, 1_000_000),
    "mfu": (0.001, 1),
    "triplets": (0, 10**12),
    "price": (0, 10_000),
}
"""Least and greatest value of each option; a number that is not finite is in none."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from mats_ray.train.plan import GPUS, PRICES_FROM, Assumptions

    usual = Assumptions(gpu=GPUS["a100-80"])
    add_config_arguments(parser)
    parser.add_argument("--gpu", choices=sorted(GPUS), default="a100-80")
    parser.add_argument("--gpus", type=int, default=usual.num_gpus, metavar="N", help="how many")
    parser.add_argument(
        "--tokens", type=int, default=usual.text_tokens, help="text tokens per sample, without the prefix"
    )
    parser.add_argument(
        "--mfu", type=float, default=usual.mfu, help="share of the card's peak that is reached"
    )
    parser.add_argument("--triplets", type=int, default=usual.num_triplets, help="rows of training data")
    parser.add_argument(
        "--price",
        type=float,
        metavar="DOLLARS",
        help=f"per GPU and hour (default: {PRICES_FROM})",
    )


def run(args: argparse.Namespace) -> int:
    """Print the plan, and beside it what the run measured, if it has been run.

    Raises:
        MATSError: The configuration is not valid, or the language model's shape is not known.
    """
    from mats_ray.train.plan import make_plan, shape_of

    given = _assumptions(args)
    config = config_of(args)
    plan = make_plan(config, shape_of(config), given)
    lines = {**_lines(config, plan, given), "assumed": _assumed(args), **_measured(config)}
    for key, value in lines.items():
        print(f"{key + ':':<23}{value}")
    return 0


def _assumptions(args: argparse.Namespace) -> "Assumptions":
    from mats_ray.errors import ConfigError
    from mats_ray.train.plan import GPUS, Assumptions

    for option, (low, high) in BOUNDS.items():
        value = getattr(args, option)
        if value is not None and not low <= value <= high:
            raise ConfigError(f"--{option} {value} must be from {low} to {high}")
    return Assumptions(
        gpu=GPUS[args.gpu],
        num_gpus=args.gpus,
        text_tokens=args.tokens,
        mfu=args.mfu,
        num_triplets=args.triplets,
        dollars_per_hour=args.price,
    )


def _lines(config: "RunConfig", plan: "Plan", given: "Assumptions") -> dict[str, str]:
    samples = f"with {plan.micro_batch_size} samples" if plan.micro_batch_size else "before the first sample"
    return {
        "trained parameters": f"{plan.trained_parameters / 1e6:.1f} M",
        **_micro_batch(config, plan),
        "memory per GPU": f"{plan.memory_gb:.1f} of {given.gpu.memory_gb:.0f} GB {samples}: "
        f"frozen {plan.frozen_gb:.1f}, trained {plan.trained_gb:.1f}, {plan.gb_per_sample:.2f} per sample",
        "samples/s": f"{plan.samples_per_s:.0f}",
        "hours": f"{plan.hours:.1f} for {config.train.num_steps} steps of {config.train.global_batch_size}",
        "checkpoint": f"{plan.checkpoint_gb:.2f} GB each",
        "storage": f"{plan.storage_gb:.1f} GB with {given.num_triplets} embedded triplets",
        "cost": f"${plan.dollars:.0f} at {_price(given)}",
        "host memory per GPU": f"{plan.host_gb:.1f} GB while each worker reads the language model whole",
    }


def _price(given: "Assumptions") -> str:
    from mats_ray.train.plan import PRICES_FROM

    if given.dollars_per_hour is not None:
        return f"${given.dollars_per_hour:g} per GPU hour"
    return f"${given.gpu.dollars_per_hour:g} per GPU hour ({PRICES_FROM}; --price changes it)"


def _micro_batch(config: "RunConfig", plan: "Plan") -> dict[str, str]:
    """List what fits in memory, what of it divides the global batch, and whether the configured size does."""
    if not plan.samples_that_fit:
        return {"fits in memory": "not even one sample; try zero_stage 3, bf16 or a larger GPU"}
    own, share = config.train.micro_batch_size, plan.samples_per_gpu
    fits = "fits" if own <= plan.samples_that_fit else "does not fit"
    divides = "divides" if share % own == 0 else "does not divide"
    return {
        "fits in memory": f"{plan.samples_that_fit} samples at once",
        "micro-batch": f"{plan.micro_batch_size}, the largest that fits and divides the {share} samples of "
        f"each GPU (the configuration's {own} {fits}, and {divides} them)",
    }


def _assumed(args: argparse.Namespace) -> str:
    return f"{args.gpus} x {args.gpu}, {args.tokens} text tokens a sample, MFU {args.mfu:g}"


def _measured(config: "RunConfig") -> dict[str, str]:
    """Read the metrics of a run of this configuration, if it is on a local disk; remote ones are not read."""
    from statistics import median

    from mats_ray.train.metrics_logger import read_records

    if "://" in config.runs_dir:
        return {}
    path = f"{config.run_dir}/metrics.jsonl"
    records = [record for record in read_records(path).values() if "samples_per_s" in record]
    if not records:
        return {}
    rate = median(record["samples_per_s"] for record in records)
    tokens = median(record["tokens_per_s"] for record in records)
    line = f"{rate:.3g} samples/s, {tokens / rate:.0f} text tokens a sample"
    if "mfu" in records[-1]:
        memory = max(record["peak_memory_gb"] for record in records)
        mfu = median(record["mfu"] for record in records if "mfu" in record)
        line += f", MFU {mfu:.2f} of the measured ceiling, {memory:.1f} GB"
    return {"measured": f"{line} ({path})"}
