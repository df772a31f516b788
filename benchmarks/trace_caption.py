"""Measured traces of the captioning job, from which ``simulate_caption`` takes its numbers and its checks.

    python -m benchmarks.trace_caption cores --audio ../shared/data/esc10 --model out/demo/model
    python -m benchmarks.trace_caption driver --model out/demo/model
    python -m benchmarks.trace_caption storage
    python -m benchmarks.trace_caption kills --kills 8 --seed 1

Each part replaces its section of ``benchmarks/traces/caption.json``. ``cores``: batches of the demo's model
with 1, 2 and 4 model processes on this machine's cores. ``driver``: the job with stages that sleep instead of
computing, so that the cores are the driver's: its seconds per batch by the number of processes. ``storage``:
CPU time of a GET. ``kills``: the kill benchmark, with every batch that is begun, every row that is written.
"""

import argparse
import io
import itertools
import json
import multiprocessing
import os
import secrets
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks import bench_pipeline as pipeline  # sets Ray's environment first

# isort: split
import numpy as np
import psutil
import pyarrow as pa
import ray

from mats_ray.caption import on_ray
from mats_ray.caption.decode import pack_table, unpack
from mats_ray.caption.job import CaptionJob
from mats_ray.caption.rows import Prompt, Source, ok_row, to_table
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.generation import GenerationConfig
from mats_ray.data.audio_files import AudioObject
from mats_ray.storage.reading import fetch_into
from mats_ray.types import Answer
from tests.kills import Job, Kill
from tests.world import tiny_model_dir

TRACES = Path(__file__).parent / "traces" / "caption.json"
HEAD_PROCESSES = ("raylet", "gcs_server")


class Clock:
    """CPU seconds of the driver and of Ray's processes on the head, sampled while a job runs."""

    def __enter__(self) -> "Clock":
        self._ended, self.samples = threading.Event(), list[tuple[float, float, float]]()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def between(self, start: float, stop: float) -> tuple[float, float]:
        """Return the CPU seconds of both between two times."""
        at, driver, head = np.array(self.samples).T
        return tuple(float(np.interp(stop, at, used) - np.interp(start, at, used)) for used in (driver, head))

    def _watch(self) -> None:
        heads = [one for one in psutil.process_iter() if one.name() in HEAD_PROCESSES]
        while not self._ended.wait(0.2):
            head = sum(sum(one.cpu_times()[:2]) for one in heads if one.is_running())
            self.samples.append((time.time(), time.process_time(), head))


def cores(args: argparse.Namespace) -> dict[str, Any]:
    """Time batches of the demo's model, by numbers of processes."""
    pipeline.ray_init()
    files, runs = sorted(Path(args.audio).rglob("*.ogg")), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        audio = pipeline.links(files, args.copies * len(files), Path(folder) / "in")
        for decoders, models in ((1, 1), (1, 2), (2, 4)):
            with Clock() as clock:
                ran = pipeline.run(audio, args.model, decoders=decoders, models=models)
            runs.append({"decoders": decoders, "models": models} | _measured(ran, clock))
            args.save({"cores": psutil.cpu_count(), "files": args.copies * len(files), "runs": runs})
            print({key: value for key, value in runs[-1].items() if not isinstance(value, list)}, flush=True)
    return {"cores": psutil.cpu_count(), "files": args.copies * len(files), "runs": runs}


def _measured(ran: Any, clock: Clock) -> dict[str, Any]:
    """Return rates and the CPU seconds of every batch of a run."""
    answers = [span for span in ran.spans if span.stage == "answer"]
    start, stop = min(one.start for one in answers), max(one.stop for one in answers)
    driver, head = clock.between(start, stop)
    stages = {
        f"{stage}_cpu_s": [round(one.cpu_s, 5) for one in ran.spans if one.stage == stage]
        for stage in ("decode", "answer")
    }
    num_batches = len(answers)
    return {
        "clips_per_s": ran.rate,
        "working_s": ran.working_s,
        "total_s": ran.total_s,
        "num_batches": num_batches,
        "driver_s_per_batch": driver / num_batches,
        "head_s_per_batch": head / num_batches,
        "busy": ran.busy,
        **stages,
    }


@dataclass(frozen=True)
class SleepingDecodeStage:
    """Decodes nothing, in a given time; the batch holds the files."""

    seconds: float
    opener: Any
    """The job's own: planning asks it for sizes."""

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Sleep."""
        started, cpu = time.time(), time.process_time()
        time.sleep(self.seconds)
        pipeline.note("decode", started, cpu, len(table))
        yield pack_table(table)


class SleepingAnswerStage:
    """Answers nothing, in a given time."""

    seconds = 0.0

    def __init__(self, settings: Any, _: Any) -> None:
        self._settings = settings

    def __call__(self, table: pa.Table) -> pa.Table:
        """Sleep, and make the rows."""
        started, cpu = time.time(), time.process_time()
        time.sleep(self.seconds)
        answer = Answer(text="a dog barks", num_tokens=4, finish_reason="stop")
        rows = to_table(
            ok_row(
                Source(path=file["path"], etag=file["etag"]),
                Prompt.from_value(file["prompts"][0]),
                self._settings.provenance,
                answer,
            )
            for files in unpack(table)
            for file in files.to_pylist()
        )
        pipeline.note("answer", started, cpu, len(rows))
        return rows


def driver(args: argparse.Namespace) -> dict[str, Any]:
    """Time the driver per batch while nothing else uses the cores."""
    ray.init(
        address="local", num_cpus=128, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    runs = list[dict[str, Any]]()
    for num_processes in args.processes:
        runs.append(_sleeping(num_processes, args))
        args.save({"sleep_s": args.sleep_s, "runs": runs})
        print({key: value for key, value in runs[-1].items() if not isinstance(value, list)}, flush=True)
    return {"sleep_s": args.sleep_s, "runs": runs}


def _sleeping(num_processes: int, args: argparse.Namespace) -> dict[str, Any]:
    num_batches = max(200, int(args.seconds * min(num_processes / args.sleep_s, 150)))
    objects = [AudioObject(path=f"/nowhere/{n:09d}.wav", size=1, etag="e") for n in range(num_batches * 32)]
    decoders = num_processes  # one decodes about as fast as a model answers (docs/scale.md)
    settings = CaptionConfig(batch_size=32, concurrency=num_processes, decode_concurrency=decoders)
    pipeline.clear_log()
    with tempfile.TemporaryDirectory() as folder, Clock() as clock:
        model, out = str(tiny_model_dir(Path(folder) / "model")), f"{folder}/out"
        job = CaptionJob(settings, GenerationConfig(), audio=objects, out=out, model=model)
        SleepingAnswerStage.seconds = args.sleep_s
        on_ray.AnswerStage = SleepingAnswerStage
        job.decode_stage = SleepingDecodeStage(args.sleep_s / 8, job.decode_stage.opener)
        with job:
            on_ray.write_missing_rows(job, job.batches())
    spans = pipeline.spans_in_log()
    answers = np.array(sorted([one.start, one.stop] for one in spans if one.stage == "answer"))
    assert len(answers) == num_batches
    # from the second batch of each process on, all of them are there
    start, stop = answers[2 * num_processes, 0], answers[-2 * num_processes, 1]
    done = int(((answers[:, 1] > start) & (answers[:, 1] <= stop)).sum())
    used, head = clock.between(start, stop)
    return {
        "models": num_processes,
        "decoders": decoders,
        "num_batches": done,
        "seconds": float(stop - start),
        "batches_per_s": float(done / (stop - start)),
        "driver_s_per_batch": used / done,
        "head_s_per_batch": head / done,
        "busy": _busy(spans, "answer", start, stop, num_processes),
        "decoders_busy": _busy(spans, "decode", start, stop, decoders),
    }


def _busy(spans: list[pipeline.Span], stage: str, start: float, stop: float, num_processes: int) -> float:
    """Return the share of a time that the processes of a stage work."""
    seconds = sum(max(0, min(one.stop, stop) - max(one.start, start)) for one in spans if one.stage == stage)
    return seconds / (stop - start) / num_processes


class Store(BaseHTTPRequestHandler):
    """A store whose every object has the same bytes."""

    protocol_version = "HTTP/1.1"
    body = b""

    def do_GET(self) -> None:
        """Answer GetObject."""
        self.send_response(200)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def serve(size: int, port: Any) -> None:
    """Be the store."""
    Store.body = secrets.token_bytes(size)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    port.put(server.server_port)
    server.serve_forever()


def storage(args: argparse.Namespace) -> dict[str, Any]:
    """Time the CPU of reading objects, in this process alone."""
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    store = context.Process(target=serve, args=(args.bytes, port), daemon=True)
    store.start()
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-central-1"}
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port.get()}"
    get_s = list[float]()
    for n in range(args.gets + 1):
        cpu = time.process_time()
        fetch_into(io.BytesIO(), f"s3://bucket/{n}", size=args.bytes, etag="e")
        get_s.append(time.process_time() - cpu)
    store.terminate()
    return {"bytes": args.bytes, "gets": args.gets, "get_cpu_s": float(np.median(get_s[1:]))}


def kills(args: argparse.Namespace) -> dict[str, Any]:
    """Run the kill benchmark: unbroken, with some kills to take the times of starts from, and with more."""
    from benchmarks.kill_caption import KINDS, Nodes, clips_in, rows_at  # sets torch's threads

    with tempfile.TemporaryDirectory() as folder:
        home, nodes, runs = Path(folder), Nodes(), dict[str, Any]()
        audio = clips_in(home / "clips", args.files)
        try:
            job = {"address": nodes.cluster.address, "model": str(tiny_model_dir(home / "model"))}
            job |= {"audio": str(audio), "kill_node": nodes.kill_one, "driver": "benchmarks.kill_driver"}
            for name, seed, number in (
                ("unbroken", 0, 0),
                ("calibration", args.seed + 1, args.kills // 2),
                ("killed", args.seed, args.kills),
            ):
                pipeline.clear_log()
                runs[name] = _killed(job, Kill.draw(KINDS, seed=seed), number, home / name)
                runs[name] |= {"seed": seed, "num_kills": number}
                print(name, {key: value for key, value in runs[name].items() if key != "spans"}, flush=True)
                rows = rows_at(home / name / "0")
                windows = Counter(row["path"] for row in rows)
                in_order = [windows[path] for path in sorted(windows)]
                found = {"files": len(windows), "rows": len(rows), "rows_of_files": in_order, "runs": runs}
                args.save(found)
                assert name == "unbroken" or rows == rows_at(home / "unbroken" / "0")
        finally:
            nodes.cluster.shutdown()
    return found


def _killed(job: dict[str, Any], drawn: Iterator[Kill], number: int, out: Path) -> dict[str, Any]:
    """Run jobs until so many processes were killed, and once more to the end."""
    events, started, num_hits, rounds = list[tuple[float, str]](), time.time(), 0, 0
    out.mkdir()
    while not rounds or num_hits < number:
        logged = Job(
            **job, out=str(out / str(rounds)), log=lambda line: events.append((time.time() - started, line))
        )
        num_hits += logged.run(itertools.islice(drawn, number - num_hits))
        rounds += 1
    return {
        "seconds": time.time() - started,
        "rounds": rounds,
        "events": events,
        "begun": sum(one.num_rows for one in pipeline.spans_in_log() if one.stage == "begin"),
        "answered": sum(one.num_rows for one in pipeline.spans_in_log() if one.stage == "answer"),
        "spans": [
            [
                one.stage,
                round(one.start - started, 3),
                round(one.stop - started, 3),
                round(one.cpu_s, 4),
                one.num_rows,
            ]
            for one in pipeline.spans_in_log()
        ],
    }


PARTS = {"kills": kills, "storage": storage, "cores": cores, "driver": driver}


def main() -> None:
    """Measure one part and write its section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--audio", default="../shared/data/esc10")
    parser.add_argument("--model", default="out/demo/model")
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--sleep-s", type=float, default=0.1)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--bytes", type=int, default=160_000)
    parser.add_argument("--gets", type=int, default=500)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--traces", type=Path, default=TRACES)
    args = parser.parse_args()
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "load_before": os.getloadavg()[0]}

    def save(section: dict[str, Any]) -> None:
        """Replace the section of the part by what there is of it."""
        traces = json.loads(args.traces.read_text()) if args.traces.exists() else {}
        args.traces.parent.mkdir(exist_ok=True)
        args.traces.write_text(json.dumps(traces | {args.part: about | section}, indent=1) + "\n")

    args.save = save
    save(PARTS[args.part](args))


if __name__ == "__main__":
    main()
