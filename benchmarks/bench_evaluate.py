"""What `mats evaluate` costs beside `mats caption` on the same files, and its memory as the clips grow.

    python benchmarks/bench_evaluate.py --model out/demo/model [--clips 1000 4000]

The evaluation answers a prompt about clips by the batch job, and also matches names, writes its log, scores
and reports. Its time over that of the job inside it is the ratio; the same job alone, in a warm Ray session
of its own too, stands beside it. Goals: at most 5 % more time; memory that does not grow.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

RATE, SECONDS, NUM_CLASSES = 16_000, 4, 50


def write_clips(folder: Path, count: int) -> Path:
    """Write noisy tones named as ESC-50's clips, and its annotation file; returns that."""
    (folder / "audio").mkdir(parents=True)
    draw, times = np.random.default_rng(0), np.arange(RATE * SECONDS) / RATE
    with (folder / "esc50.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", "fold", "target", "category", "esc10", "src_file", "take"])
        for n in range(count):
            samples = 0.3 * np.sin(2 * np.pi * draw.uniform(50, 3000) * times) + 0.1 * draw.standard_normal(
                len(times)
            )
            soundfile.write(folder / "audio" / f"1-{n}-A-0.wav", samples, RATE)
            rows.writerow([f"1-{n}-A-0.wav", 1, n % NUM_CLASSES, f"class_{n % NUM_CLASSES}", False, n, "A"])
    return folder / "esc50.csv"


MEASURE = """
import json, resource, sys, time
from contextlib import nullcontext
import ray
from mats_ray.cli.on_ray import cluster
from mats_ray.evaluate.benchmark import find_benchmark
from mats_ray.tasks import INSTRUCTIONS, Task

kind, model, folder, out, repeats = sys.argv[1:]
seconds, inside = [], []
with cluster():
    for turn in range(int(repeats) + 1):  # the first warms Ray's workers and is not counted
        started = time.monotonic()
        if kind == "caption":
            from mats_ray.caption.on_ray import caption
            from mats_ray.config.caption import CaptionConfig
            prompt = f"{find_benchmark('esc50').upstream_prefix} {INSTRUCTIONS[Task.CLASSIFICATION]}"
            where = {"audio": f"{folder}/audio", "out": f"{out}/{turn}", "model": model}
            caption(CaptionConfig(), questions=[prompt], **where)
        else:
            from mats_ray.config.evaluate import BenchmarkInput, EvaluateConfig
            from mats_ray.evaluate import answering
            from mats_ray.evaluate.report.page import write_report
            from mats_ray.evaluate.run import evaluate
            if turn == 0:
                job = answering.caption
                def timed(*args, **more):
                    began = time.monotonic()
                    summary = job(*args, **more)
                    inside.append(time.monotonic() - began)
                    return summary
                answering.caption = timed
            one = BenchmarkInput(name="esc50", annotations=f"{folder}/esc50.csv", audio=f"{folder}/audio")
            evaluate(EvaluateConfig(model=model, out=f"{out}/{turn}", benchmarks=[one]))
            write_report(f"{out}/{turn}")
        seconds.append(time.monotonic() - started)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print("RESULT", json.dumps({"seconds": seconds[1:], "inside": inside[1:], "peak_gb": peak}))
"""


def measure(kind: str, model: str, folder: Path, out: Path, repeats: int) -> dict:
    """Run one side in a process of its own; peak memory is the driver's."""
    command = [sys.executable, "-c", MEASURE, kind, model, str(folder), str(out), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.rpartition("RESULT ")[2])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="out/demo/model")
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}: clips of {SECONDS} s, median of {args.repeats}, model {args.model}")
    with tempfile.TemporaryDirectory() as scratch:
        for count in args.clips:
            folder = Path(scratch) / str(count)
            write_clips(folder, count)
            found = {
                kind: measure(kind, args.model, folder, folder / kind, args.repeats)
                for kind in ("caption", "evaluate")
            }
            caption, evaluate = (statistics.median(found[kind]["seconds"]) for kind in found)
            pairs = zip(found["evaluate"]["seconds"], found["evaluate"]["inside"], strict=True)
            ratio = statistics.median(whole / job for whole, job in pairs)
            peaks = " and ".join(f"{found[kind]['peak_gb']:.2f}" for kind in found)
            print(
                f"{count} clips: evaluate {evaluate:.1f} s, {ratio:.3f} x the job inside it; caption alone "
                f"{caption:.1f} s; driver's peak {peaks} GB (caption, evaluate)",
                flush=True,
            )


if __name__ == "__main__":
    main()
