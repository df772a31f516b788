"""The whole captioning job on Ray, on this machine's cores: against upstream's way, its stages, its memory.

    python -m benchmarks.bench_pipeline speed --audio ../shared/data/esc10 --model out/demo/model
    python -m benchmarks.bench_pipeline scaling --audio ../shared/data/esc10 --model out/demo/model
    python -m benchmarks.bench_pipeline memory --model out/demo/model --files 2000 20000

``speed``: files one at a time as upstream does it (decode, CLAP, transformers' beam-4 ``generate`` on the
language model with its adapter beside it, as many threads as torch likes) against the job; other text is a
failure. Rates are counted while the job's processes work, as models are loaded before on both sides; the
whole time stands beside. ``command``: the same against ``mats caption``, timed from its call to its end, in
turn. ``scaling``: decoders and models. ``memory``: peak of the whole machine above what
it held before, and how busy the stages are, on sounds of two seconds (links to 100 files).
"""

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for name, value in {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}.items():
    os.environ.setdefault(name, value)
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
LOG = os.environ.setdefault("MATS_BENCH_LOG", tempfile.mkdtemp(prefix="bench_pipeline_"))
"""Folder where the processes of a job, which inherit this, log the times of their batches."""

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import soundfile
import torch

from mats_ray.caption import on_ray
from mats_ray.caption.answer import AnswerStage
from mats_ray.caption.decode import DecodeStage
from mats_ray.caption.job import CaptionJob
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.generation import PROFILES, GenerationConfig
from mats_ray.data.audio import read_audio

PROMPT = "Describe the following audio in a caption."


class TimedDecodeStage(DecodeStage):
    """Notes when it decodes."""

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Decode."""
        batches, started, cpu = super().__call__(table), time.time(), time.process_time()
        for batch in batches:
            note("decode", started, cpu)
            yield batch
            started, cpu = time.time(), time.process_time()


class TimedAnswerStage(AnswerStage):
    """Notes when it answers."""

    def __call__(self, table: pa.Table) -> pa.Table:
        """Answer."""
        started, cpu = time.time(), time.process_time()
        rows = super().__call__(table)
        note("answer", started, cpu, len(rows))
        return rows


@dataclass(frozen=True)
class Span:
    """A batch in one process."""

    stage: str
    start: float
    """Seconds since the epoch."""
    stop: float
    cpu_s: float
    """CPU time of the whole process meanwhile."""
    num_rows: int


def note(stage: str, started: float, cpu_started: float, num_rows: int = 0) -> None:
    """Append a span that ends now to this process's own file."""
    with (Path(LOG) / str(os.getpid())).open("a") as file:
        cpu_s = time.process_time() - cpu_started
        file.write(f"{stage} {started} {time.time()} {cpu_s} {num_rows}\n")


def clear_log() -> None:
    """Remove the spans of earlier jobs."""
    shutil.rmtree(LOG)
    Path(LOG).mkdir()


def spans_in_log() -> list[Span]:
    """Read the spans of all processes since ``clear_log``."""
    lines = [line.split() for path in Path(LOG).iterdir() for line in path.read_text().splitlines()]
    return [
        Span(stage, float(start), float(stop), float(cpu_s), int(num_rows))
        for stage, start, stop, cpu_s, num_rows in lines
    ]


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """Result and timing of a job."""

    rows: list[dict[str, Any]]
    total_s: float
    working_s: float
    """Seconds from the start of the first batch to the end of the last one, in the models' processes."""
    busy: dict[str, float]
    """Share of their time that the processes of a stage work, from its first to its last batch."""
    peak_mb: float
    """Peak memory of the machine, above that before the job."""
    spans: list[Span]
    """Every batch of every process."""

    @property
    def rate(self) -> float:
        """Files a second while it works."""
        return len(self.rows) / self.working_s


def run(audio: str, model: str, *, decoders: int = 1, models: int = 1, batch_size: int = 32) -> JobResult:
    """Caption a folder into a new one."""
    clear_log()
    settings = CaptionConfig(batch_size=batch_size, concurrency=models, decode_concurrency=decoders)
    paper = GenerationConfig(profile="paper")
    with tempfile.TemporaryDirectory() as out, Peak() as peak:
        job = CaptionJob(settings, paper, audio=audio, out=out, model=model)
        on_ray.AnswerStage, job.decode_stage = TimedAnswerStage, TimedDecodeStage(**vars(job.decode_stage))
        started = time.perf_counter()
        with job:
            on_ray.write_missing_rows(job, job.batches())
        job.finish()
        total = time.perf_counter() - started
        rows = pq.read_table(out).to_pylist()
    noted = spans_in_log()
    spans = {
        stage: np.array([[one.start, one.stop] for one in noted if one.stage == stage])
        for stage in ("decode", "answer")
    }
    lasted = {stage: span[:, 1].max() - span[:, 0].min() for stage, span in spans.items()}
    workers = {"decode": decoders, "answer": models}
    busy = {s: float((t[:, 1] - t[:, 0]).sum() / lasted[s] / workers[s]) for s, t in spans.items()}
    return JobResult(
        rows=rows,
        total_s=total,
        working_s=float(lasted["answer"]),
        busy=busy,
        peak_mb=peak.megabytes,
        spans=noted,
    )


class Peak:
    """The most memory this machine held meanwhile, above what it held before: nothing else may run."""

    def __enter__(self) -> "Peak":
        self.megabytes, self._ended = 0.0, threading.Event()
        self._before = psutil.virtual_memory().available
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            held = self._before - psutil.virtual_memory().available
            self.megabytes = max(self.megabytes, held / 1e6)


@torch.inference_mode()
def one_by_one(paths: list[str], model: str) -> tuple[float, dict[str, str]]:
    """Caption files as upstream does; files a second and captions."""
    from mats_ray.infer.answerer import Answerer
    from mats_ray.infer.encoder import AudioEncoder
    from mats_ray.models.directory import load_model, read_info
    from mats_ray.models.splice import pad_left

    info = read_info(model)
    encoder, mover = AudioEncoder.from_info(info), Answerer.from_info(info)
    mats, prompts = load_model(info)  # the adapter beside the weights
    encoder.encode([read_audio(paths[0])])
    started, captions = time.perf_counter(), dict[str, str]()
    for path in paths:
        moved = mover.move(encoder.encode([read_audio(path)]))
        spliced = pad_left(mats.prompt(moved, [prompts.after(PROMPT)]))
        (found,) = mats.generate_by_transformers(spliced, max_new_tokens=200, **PROFILES["paper"].as_kwargs())
        captions[Path(path).name] = prompts.decode(found.ids)
    return len(paths) / (time.perf_counter() - started), captions


def links(files: list[Path], number: int, folder: Path) -> str:
    """Make many files of some."""
    folder.mkdir()
    for n in range(number):
        source = files[n % len(files)]
        (folder / f"{n:06d} {source.name}").symlink_to(source.resolve())
    return str(folder)


def speed(args: argparse.Namespace) -> None:
    """One at a time against the job."""
    files = sorted(Path(args.audio).rglob("*.ogg"))
    alone, captions = one_by_one([str(path) for path in files], args.model)
    ray_init()
    with tempfile.TemporaryDirectory() as folder:
        ran = run(links(files, args.copies * len(files), Path(folder) / "in"), args.model, **shape(args))
    check_same(ran.rows, captions)
    print(
        f"speed: one by one {alone:.1f} files/s ({len(files)} files); the job {ran.rate:.1f} files/s "
        f"({len(ran.rows)} files, {ran.total_s:.0f} s with starting): {ran.rate / alone:.1f} x, same text; "
        f"{busy_words(ran)}"
    )


def command(args: argparse.Namespace) -> None:
    """One at a time, its model loaded, against ``mats caption`` from its call to its end."""
    files = sorted(Path(args.audio).rglob("*.ogg"))
    with tempfile.TemporaryDirectory() as folder:
        audio = links(files, args.copies * len(files), Path(folder) / "in")
        for number in range(args.runs):
            alone, captions = one_by_one([str(path) for path in files], args.model)
            out = str(Path(folder) / f"out {number}")
            call = [sys.executable, "-m", "mats_ray", "caption", "--audio", audio, "--model", args.model]
            call += ["--out", out, "--set", "generation.profile=paper"]
            started = time.perf_counter()
            subprocess.run(call, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            took = time.perf_counter() - started
            rows = pq.read_table(out).to_pylist()
            assert len(rows) == args.copies * len(files)
            check_same(rows, captions)
            print(
                f"command: one by one {alone:.1f} files/s; mats caption {len(rows)} files in {took:.1f} s "
                f"{len(rows) / took:.1f} files/s: "
                f"{len(rows) / took / alone:.2f} x, same text",
                flush=True,
            )


def check_same(rows: list[dict[str, Any]], captions: dict[str, str]) -> None:
    """Fail if a row's caption is not the one that upstream's way gives."""
    wrong = [row["path"] for row in rows if row["caption"] != captions[row["path"].split(" ", 1)[1]]]
    assert not wrong, f"{len(wrong)} captions differ, the first of {wrong[0]}"


def scaling(args: argparse.Namespace) -> None:
    """Files a second by numbers of processes."""
    ray_init()
    files = sorted(Path(args.audio).rglob("*.ogg"))
    with tempfile.TemporaryDirectory() as folder:
        audio = links(files, args.copies * len(files), Path(folder) / "in")
        for decoders, models in ((1, 1), (2, 1), (1, 2), (2, 2)):
            ran = run(audio, args.model, decoders=decoders, models=models, batch_size=args.batch_size)
            words = f"{ran.rate:.1f} files/s, {busy_words(ran)}"
            print(f"scaling: {decoders} decoders, {models} models: {words}", flush=True)


def memory(args: argparse.Namespace) -> None:
    """Peak memory and how busy the stages are, by number of files."""
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for n in range(100):
            sound = (
                0.3 * np.sin(np.arange(2 * 44_100) * draw.uniform(0.01, 0.3)) + 0.05 * draw.standard_normal()
            )
            soundfile.write(Path(folder) / f"{n}.wav", sound, 44_100)
        files = sorted(Path(folder).glob("*.wav"))
        for number in args.files:
            ray_init()  # a new one each: the object store keeps the memory it has once touched
            ran = run(links(files, number, Path(folder) / f"in {number}"), args.model, **shape(args))
            ray.shutdown()
            assert len(ran.rows) == number
            words = f"{ran.rate:.1f} files/s, {ran.total_s:.0f} s with starting; {busy_words(ran)}"
            print(f"memory: {number} files: peak {ran.peak_mb:.0f} MB; {words}", flush=True)


def shape(args: argparse.Namespace) -> dict[str, int]:
    """Return the numbers of actors and the batch size."""
    return {"decoders": args.decoders, "models": args.models, "batch_size": args.batch_size}


def busy_words(ran: JobResult) -> str:
    """Format the busy share of each stage."""
    return "busy: " + ", ".join(f"{stage} {share:.0%}" for stage, share in ran.busy.items())


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=("speed", "command", "scaling", "memory"))
    parser.add_argument("--audio", default="../shared/data/esc10")
    parser.add_argument("--model", default="out/demo/model")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--copies", type=int, default=6)
    parser.add_argument("--files", type=int, nargs="+", default=[2_000, 20_000])
    parser.add_argument("--decoders", type=int, default=1)
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    {"speed": speed, "command": command, "scaling": scaling, "memory": memory}[args.part](args)
    ray.shutdown()


def ray_init() -> None:
    """Start a cluster of more processors than there are: Ray counts them, it does not use them."""
    ray.init(address="local", num_cpus=6, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


if __name__ == "__main__":
    main()
