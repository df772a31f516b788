"""``mats plan``: what a run, or with ``--objects`` a captioning job, will need on given GPUs, by arithmetic.

Nothing is loaded or started.
"""

import argparse
from typing import TYPE_CHECKING, Any

from mats_ray.cli.args import add_config_arguments, config_of

if TYPE_CHECKING:
    from mats_ray.caption.capacity import Capacity, Cluster, Workload
    from mats_ray.config import RunConfig
    from mats_ray.train.plan import Assumptions, Plan

EPILOG = """\
Examples:
  mats plan --config configs/mats_llama_7b.yaml --gpu a100-80 --gpus 16
  mats plan --config configs/mats_llama_7b.yaml --objects 100000000 --seconds-per-clip 10 \\
      --gpu h200-141 --gpus 64
"""
BOUNDS = {
    "gpus": (1, 100_000),
    "tokens": (1, 1_000_000),
    "mfu": (0.001, 1),
    "triplets": (0, 10**12),
    "price": (0, 10_000),
    "objects": (0, 10**10),
    "seconds-per-clip": (0.01, 43_200),
    "bytes-per-second": (1, 10**7),
    "prompts": (1, 1_000),
    "clips-per-second": (0.001, 100_000),
}
"""Least and greatest value of each option; a number that is not finite is in none."""
OF_CAPTIONING = ("seconds-per-clip", "bytes-per-second", "prompts", "clips-per-second")
"""Options that mean nothing without ``--objects``."""


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
    parser.add_argument("--triplets", type=int, help=f"rows of training data (default: {usual.num_triplets})")
    parser.add_argument(
        "--price",
        type=float,
        metavar="DOLLARS",
        help=f"per GPU and hour (default: {PRICES_FROM})",
    )
    parser.add_argument("--cluster", metavar="YAML", help="a cluster for `ray up`: what it costs per hour")
    caption = parser.add_argument_group("captioning a bucket, in place of training")
    caption.add_argument("--objects", type=int, metavar="N", help="objects in the bucket")
    caption.add_argument("--seconds-per-clip", type=float, metavar="S", help="of each object (default: 10)")
    caption.add_argument(
        "--bytes-per-second",
        type=float,
        metavar="BYTES",
        help="as stored (default: 16000, MP3 at 128 kbit/s)",
    )
    caption.add_argument("--prompts", type=int, metavar="N", help="per object (default: 1)")
    caption.add_argument(
        "--clips-per-second",
        type=float,
        metavar="RATE",
        help="objects a second of one GPU as measured (default: estimated from shapes)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the plan; beside that of a training run what it measured, if it has been run.

    Raises:
        MATSError: The configuration is not valid, a number is out of bounds, or the language model's shape is
            not known.
    """
    _check(args)
    config = config_of(args)
    lines = _training(config, args) if args.objects is None else _captioning(config, args)
    if args.cluster is not None:
        lines |= _cluster(args.cluster)
    for key, value in lines.items():
        print(f"{key + ':':<23}{value}")
    return 0


def _cluster(path: str) -> dict[str, str]:
    from pathlib import Path

    from mats_ray.config.base import read_yaml
    from mats_ray.deploy.hourly import hourly_cost

    return {"cluster": str(hourly_cost(read_yaml(Path(path))))}


def _check(args: argparse.Namespace) -> None:
    from mats_ray.errors import ConfigError

    for option, (low, high) in BOUNDS.items():
        value = _value(args, option)
        if value is not None and not low <= value <= high:
            raise ConfigError(f"--{option} {value} must be from {low} to {high}")
    for option in OF_CAPTIONING if args.objects is None else ("triplets",):
        if _value(args, option) is not None:
            raise ConfigError(
                f"--{option} is about captioning: it needs --objects"
                if args.objects is None
                else f"--{option} is about training: leave it out, or leave out --objects"
            )


def _value(args: argparse.Namespace, option: str) -> float | None:
    return getattr(args, option.replace("-", "_"))


def _given(**values: Any) -> dict[str, Any]:
    """Return the arguments that were given: defaults stand where they are used."""
    return {name: value for name, value in values.items() if value is not None}


def _training(config: "RunConfig", args: argparse.Namespace) -> dict[str, str]:
    from mats_ray.train.plan import GPUS, Assumptions, make_plan, shape_of

    given = Assumptions(
        gpu=GPUS[args.gpu],
        num_gpus=args.gpus,
        text_tokens=args.tokens,
        mfu=args.mfu,
        dollars_per_hour=args.price,
        **_given(num_triplets=args.triplets),
    )
    plan = make_plan(config, shape_of(config), given)
    return {**_lines(config, plan, given), "assumed": _assumed(args), **_measured(config)}


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


def _price(given: "Assumptions | Cluster") -> str:
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


def _captioning(config: "RunConfig", args: argparse.Namespace) -> dict[str, str]:
    from mats_ray.caption.capacity import Cluster, Workload, plan_capacity
    from mats_ray.train.plan import GPUS, shape_of

    work = Workload(
        num_objects=args.objects,
        text_tokens=args.tokens,
        **_given(
            seconds_per_clip=args.seconds_per_clip,
            bytes_per_second=args.bytes_per_second,
            num_prompts=args.prompts,
        ),
    )
    cluster = Cluster(
        gpu=GPUS[args.gpu],
        num_gpus=args.gpus,
        mfu=args.mfu,
        clips_per_s=args.clips_per_second,
        dollars_per_hour=args.price,
    )
    capacity = plan_capacity(config, shape_of(config), work, cluster)
    return {
        **_compute(capacity, cluster),
        **_storage(capacity),
        "assumed": _assumed_of_captioning(config, args, work, cluster),
    }


def _compute(capacity: "Capacity", cluster: "Cluster") -> dict[str, str]:
    """List rates, hours and what the GPUs need beside them."""
    from mats_ray.caption.capacity import fits

    waits = "" if capacity.limit == "GPUs" else f", waiting for the {capacity.limit}"
    fit = "" if fits(capacity, cluster.gpu) else "; it does not fit, try a smaller caption.batch_size"
    source = "estimated" if cluster.clips_per_s is None else "as given"
    return {
        "clips/s": f"{capacity.clips_per_s:.3g} per GPU, {source}",
        "hours": f"{capacity.hours:.1f} on {cluster.num_gpus} GPUs{waits}; "
        f"{capacity.gpu_hours:.0f} GPU hours",
        "cost": f"${capacity.dollars:.0f} at {_price(cluster)}",
        "one driver": f"up to {capacity.gpus_of_driver} GPUs, in batches of {capacity.clips_per_batch} clips",
        "memory per GPU": f"{capacity.gpu_memory_gb:.1f} of {cluster.gpu.memory_gb:.0f} GB{fit}",
        "decoders per GPU": f"{capacity.decoders_per_gpu}, {capacity.cpus_per_gpu:.2f} cores at work",
        "driver memory": f"{capacity.driver_mb:.0f} MB",
    }


def _storage(capacity: "Capacity") -> dict[str, str]:
    """List requests, bytes and prices."""
    from mats_ray.storage.s3_prices import S3_STANDARD

    made, again = capacity.requests, capacity.resume_requests
    return {
        "requests": f"{made.lists} LIST, {made.gets} GET, {made.puts} PUT, {made.heads} HEAD: "
        f"${capacity.request_dollars:.2f} (S3 Standard, {S3_STANDARD.region}, {S3_STANDARD.date})",
        "bytes": f"{capacity.fetched_gb:.1f} GB fetched: $0 within the region, "
        f"${capacity.to_region_dollars:.2f} from another; "
        f"{capacity.decoded_gb:.1f} GB of samples from decoders to models",
        "output": f"{capacity.rows} rows, {capacity.output_gb:.2f} GB in {capacity.parts} parts",
        "keys": f"{capacity.keys_gb:.2f} GB listed and compared in blocks",
        "resuming": f"near the end: {again.lists} LIST, {again.gets} GET, ${capacity.resume_dollars:.2f}, "
        f"{capacity.resume_gb:.2f} GB of keys, {capacity.resume_s:.0f} s to list and compare",
    }


def _assumed_of_captioning(
    config: "RunConfig", args: argparse.Namespace, work: "Workload", cluster: "Cluster"
) -> str:
    from mats_ray.caption.capacity import GET_WAIT_SECONDS, answer_shape, counts_of

    answer, counts = answer_shape(config, work), counts_of(config, work)
    rate = (
        f"MFU {cluster.mfu:g}, MBU {cluster.mbu:g}, not measured on a GPU"
        if cluster.clips_per_s is None
        else "the rate that was given"
    )
    return (
        f"{args.gpus} x {args.gpu}, {rate}; {work.seconds_per_clip:g} s, {work.object_bytes:.0f} bytes, "
        f"{counts.windows} CLAP windows and {counts.rows} rows an object; {answer.prompt_tokens} positions, "
        f"then {answer.answer_tokens} tokens, {answer.num_beams} beams; {GET_WAIT_SECONDS * 1e3:.0f} ms a GET"
    )
