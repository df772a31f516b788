"""Batches a second that a captioning job's source hands to its processes, before and after its look-ahead.

    python -m benchmarks.bench_feed

The stages sleep instead of computing (a decoder 12.5 ms a batch, a model 100 ms), and all batches are in the
feed from the start, so that handing them over is what is measured. *Before*: Ray Data takes at most two
blocks of a task in a turn of its loop, as it does unless told otherwise. Rates leave out the first quarter.
"""

import argparse
import os
import secrets
import time
from unittest import mock

for name, value in {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}.items():
    os.environ.setdefault(name, value)
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset

from mats_ray.caption import on_ray
from mats_ray.caption.batch_feed import BatchFeed
from mats_ray.caption.decode import pack_table, unpack
from mats_ray.config.caption import CaptionConfig
from mats_ray.on_ray.data import execution, finished_blocks

DECODE_S, ANSWER_S, BATCH_SIZE = 0.0125, 0.1, 32


class Sleep:
    """Stage that passes batches on after a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, table: pa.Table):
        """Sleep once per batch."""
        for batch in unpack(table):
            time.sleep(self._seconds)
            yield pack_table(batch)


def stage(batches: Dataset, seconds: float, processes: int) -> Dataset:
    """Append a stage of so many processes."""
    return batches.map_batches(
        Sleep,
        fn_constructor_args=[seconds],
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=processes),
        num_cpus=0.1,
    )


def rate(num_batches: int, decoders: int, models: int) -> float:
    """Return batches a second of one run; without decoders the models are next to the source."""
    paths = [f"/nowhere/{number:09d}.wav" for number in range(BATCH_SIZE)]
    batch = pa.table({"path": paths, "prompts": [["x"]] * BATCH_SIZE})
    feed = on_ray._on_driver_node(BatchFeed, num_batches)
    ray.get([feed.put.remote(batch, BATCH_SIZE) for _ in range(num_batches)])
    feed.close.remote()
    settings = CaptionConfig(batch_size=BATCH_SIZE, concurrency=models, decode_concurrency=max(1, decoders))
    with execution() as context:
        on_ray._stream_batches(context, settings)
        batches = on_ray._source(feed)
        if decoders:
            batches = stage(batches, DECODE_S, decoders)
        ends = [time.monotonic() for _ in finished_blocks(stage(batches, ANSWER_S, models), prefetch=1)]
    ray.kill(feed)
    assert len(ends) == num_batches
    start = num_batches // 4
    return (num_batches - start) / (ends[-1] - ends[start])


def rate_before(*sizes: int) -> float:
    """Return the rate with Ray Data's own look-ahead."""
    usual = Dataset.map_batches

    def without_look_ahead(*args, _generator_backpressure_num_objects=None, **options):
        return usual(*args, **options)

    with mock.patch.object(Dataset, "map_batches", without_look_ahead):
        return rate(*sizes)


def main() -> None:
    """Measure both in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--decoders", type=int, nargs="+", default=[0, 4])
    args = parser.parse_args()
    ray.init(
        address="local", num_cpus=64, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    print("| decoders | models | batches/s before | now | ratio |\n|---|---|---|---|---|")
    for decoders in args.decoders:
        sizes = (args.batches, decoders, args.models)
        before, now = rate_before(*sizes), rate(*sizes)
        print(f"| {decoders} | {args.models} | {before:.1f} | {now:.1f} | {now / before:.2f} |", flush=True)


if __name__ == "__main__":
    main()
