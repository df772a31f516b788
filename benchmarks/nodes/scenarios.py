"""Faults of nodes under jobs and under the service, and what they cost; see ``__main__``."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.nodes.cluster import BUCKET, RayNodes, Store, Watch, table_row, until
from tests.integration.test_caption import encoded, sound
from tests.runs import losses
from tests.toy import tiny_config
from tests.world import tiny_model_dir

CPUS = 3
"""Logical CPUs of a worker."""
DOWN_S, PARTITION_S = 15, 60
Fault = Callable[["Bench"], None]


@dataclass
class Bench:
    """The cluster, its bucket, and what scenarios share.

    Attributes:
        nodes: Two workers, w1 and w2.
        home: Folder that all hosts see.
        shared: What an undisturbed job left, by kind of job.
    """

    nodes: RayNodes
    bucket: Store
    home: Path
    shared: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Make something for all scenarios."""
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]


@dataclass
class Run:
    """A job that ended: what it left, how long it took, and how long nothing was added."""

    result: Any
    seconds: float
    pause: float


def run_job(
    bench: Bench,
    name: str,
    entrypoint: Sequence[object],
    progress: Callable[[], int],
    fault: Fault | None,
    *,
    after: int,
) -> Run:
    """Submit a job, disturb it when so much is done, wait for its end.

    Raises:
        RuntimeError: The job failed.
    """
    bench.nodes.submit(name, *entrypoint)
    watch, moment = Watch(progress), 0.0

    def status() -> str:
        return bench.nodes.status(name)

    try:
        until(lambda: watch.number >= after or status() in {"SUCCEEDED", "FAILED"}, "progress of the job")
        moment = watch.now
        if fault:
            assert status() == "RUNNING", f"{name} had ended before the fault: {status()}"
            fault(bench)
        until(lambda: status() in {"SUCCEEDED", "FAILED"}, "the end of the job")
    finally:
        watch.stop()
    (bench.home / f"{name}.txt").write_text(bench.nodes.logs(name))
    if status() != "SUCCEEDED":
        raise RuntimeError(f"{name}: {bench.nodes.logs(name)[-1500:]}")
    print(f"    {name}: {[(round(at), number) for at, number in watch.seen]}", flush=True)
    return Run(None, watch.now, watch.pause_after(moment))


# faults


def lose_and_return(bench: Bench) -> None:
    """Cut a worker's link, kill everything on it, and start it with an empty disk after ``DOWN_S``."""
    host = bench.nodes.workers["w2"]
    host.kill()
    time.sleep(DOWN_S)
    host.mend()
    host.boot()
    bench.nodes.start_worker("w2", CPUS)


def partition(bench: Bench) -> None:
    """Cut a worker's link for a minute."""
    host = bench.nodes.workers["w2"]
    host.cut()
    time.sleep(PARTITION_S)
    host.mend()


def fill_disk(bench: Bench) -> None:
    """Write a worker's /tmp full to the last byte; it stays so."""
    fill = bench.nodes.workers["w2"].inside("dd", "if=/dev/zero", "of=/tmp/fill", "bs=64k")
    done = subprocess.run(fill, capture_output=True, text=True, check=False)
    assert "No space left" in done.stderr, done.stderr


# jobs


def caption(bench: Bench, name: str, fault: Fault | None) -> Run:
    """Caption files in S3 with two model actors, one per worker as a rule."""

    def inputs() -> str:
        model = tiny_model_dir(bench.home / "model")
        for i in range(NUM_CLIPS):
            bench.bucket.files.pipe_file(
                f"{BUCKET}/in/{i:04d}.flac", encoded(sound(i, 1 + i % 20), format="FLAC")
            )
        return str(model)

    out = f"out/{name}"
    words: list[object] = ["python", "jobs/caption.py", "--model", bench.once("caption inputs", inputs)]
    words += ["--audio", f"s3://{BUCKET}/in", "--out", f"s3://{BUCKET}/{out}", "--window", "clap"]
    for setting in (
        "caption.batch_size=2",
        "caption.concurrency=2",
        "caption.decode_concurrency=2",
        "generation.profile=paper",
        "generation.max_new_tokens=24",
    ):
        words += ["--set", setting]
    run = run_job(bench, name, words, lambda: bench.bucket.num_rows(out), fault, after=20)
    run.result = bench.bucket.rows(out, by=("path", "segment"))
    return run


NUM_CLIPS = 100


def toy_world(bench: Bench) -> None:
    """Make a toy world with embedded texts and memory, by a job of one step, on the disk that hosts share."""

    def build() -> bool:
        file = bench.home / "world.yaml"
        few = tiny_config(bench.home / "world").replace(
            train={"num_steps": 1, "schedule": {"warmup_steps": 0}}
        )
        file.write_text(json.dumps(few.model_dump(mode="json")))
        run_job(bench, "world", ["python", "jobs/train.py", "--config", file], int, None, after=1)
        return True

    bench.once("toy world", build)


def train(bench: Bench, name: str, fault: Fault | None) -> Run:
    """Train with DeepSpeed on two workers, one per node; run directory and model in S3."""
    scaling = {"num_workers": 2, "cpus_per_worker": CPUS - 1}
    longer = {"num_steps": 300, "max_failures": 4, "checkpoint": {"every_steps": 10, "keep": 3}}
    world = tiny_config(bench.home / "world").replace(scaling=scaling, train=longer)

    toy_world(bench)
    changes = {
        "name": name,
        "output_dir": f"s3://{BUCKET}/{name}",
        "model": {"clap": {"ref": world.clap_ref}, "llm": {"path": world.llm_path}},
        "data": {"embedded": world.embedded_path},
        "memory": {"path": world.memory_path},
    }
    config = world.replace(**changes).replace(toy=None)
    file = bench.home / f"{name}.yaml"
    file.write_text(json.dumps(config.model_dump(mode="json")))
    metrics = f"{config.runs_dir}/{name}/metrics.jsonl"
    entrypoint = ["python", "jobs/train.py", "--config", "configs/toy.yaml", "--config", file]
    run = run_job(bench, name, entrypoint, lambda: max(losses(metrics), default=0), fault, after=30)
    run.result = losses(metrics)
    return run


def embed(bench: Bench, name: str, fault: Fault | None) -> Run:
    """Embed texts with two CLAP actors; rows in S3."""
    world = tiny_config(bench.home / "world")

    toy_world(bench)

    def triplets() -> str:
        folder = bench.home / "triplets"
        folder.mkdir()
        one = pa.concat_tables(
            [pq.read_table(file) for file in sorted(Path(world.triplets_path).glob("*.parquet"))]
        )
        many = [
            row | {"id": f"{row['id']}-{i}", "text": f"{row['text']} number {i}"}
            for i in range(NUM_COPIES)
            for row in one.to_pylist()
        ]
        pq.write_table(pa.Table.from_pylist(many, schema=one.schema), folder / "part-00000.parquet")
        return str(folder)

    config = world.replace(
        name=name,
        output_dir=f"s3://{BUCKET}/{name}",
        model={"clap": {"ref": world.clap_ref}, "llm": {"path": world.llm_path}},
        data={
            "triplets": bench.once("triplets", triplets),
            "embed": {"num_partitions": 24, "concurrency": 2, "batch_size": 8},
        },
    ).replace(toy=None)
    file = bench.home / f"{name}.yaml"
    file.write_text(json.dumps(config.model_dump(mode="json")))
    folder = config.embedded_path.removeprefix(f"s3://{BUCKET}/")
    run = run_job(
        bench,
        name,
        ["python", "jobs/embed.py", "--config", file],
        lambda: len(bench.bucket.parts(folder)),
        fault,
        after=3,
    )
    run.result = bench.bucket.rows(folder, by=("id",))
    return run


NUM_COPIES = 60


def evaluate(bench: Bench, name: str, fault: Fault | None) -> Run:
    """Answer and score a benchmark of clips in S3, with ESC-50's form of annotations."""

    def inputs() -> tuple[str, str]:
        model = tiny_model_dir(bench.home / "evaluated")
        rows = []
        for i in range(NUM_CLIPS):
            clip = f"{1 + i % 5}-{i:05d}-A-{i % 50}.flac"
            rows.append(f"{clip},{1 + i % 5},{i % 50},{('dog', 'rain', 'siren')[i % 3]},False,{i},A\n")
            bench.bucket.files.pipe_file(f"{BUCKET}/esc/{clip}", encoded(sound(i, 5 + i % 20), format="FLAC"))
        file = bench.home / "esc50.csv"
        file.write_text("filename,fold,target,category,esc10,src_file,take\n" + "".join(rows))
        return str(model), str(file)

    model, annotations = bench.once("evaluate inputs", inputs)
    benchmark = {"name": "esc50", "annotations": annotations, "audio": f"s3://{BUCKET}/esc"}
    tree = {"model": model, "out": f"s3://{BUCKET}/{name}", "benchmarks": [benchmark]}
    tree |= {"caption": {"batch_size": 2, "concurrency": 2, "decode_concurrency": 2}}
    tree |= {"generation": {"profile": "paper", "max_new_tokens": 60}}
    file = bench.home / f"{name}.yaml"
    file.write_text(json.dumps(tree))
    entrypoint = ["python", "jobs/evaluate.py", "--config", file]
    run = run_job(bench, name, entrypoint, lambda: bench.bucket.num_rows(name), fault, after=10)
    files = [
        one for one in sorted(bench.bucket.files.find(f"{BUCKET}/{name}")) if one.endswith("samples.parquet")
    ]
    run.result = [
        row for one in files for row in pq.read_table(one, filesystem=bench.bucket.files).to_pylist()
    ]
    return run


JOBS = {"caption": caption, "train": train, "embed": embed, "evaluate": evaluate}
FAULTS: dict[str, tuple[Fault, str]] = {
    "lost": (
        lose_and_return,
        f"one of two workers killed, link cut first; back with an empty disk after {DOWN_S} s",
    ),
    "partition": (partition, f"link of one of two workers down for {PARTITION_S} s"),
    "disk": (fill_disk, "disk of one of two workers full from then on"),
}


def disturbed(bench: Bench, job: str, fault: str) -> str:
    """Run a job with a fault, compare it with one without, and return the row of the table.

    Raises:
        AssertionError: The results differ.
    """
    kind, (action, done) = JOBS[job], FAULTS[fault]
    bench.nodes.until_whole()
    whole: Run = bench.once(f"unbroken {job}", lambda: kind(bench, f"{job}-unbroken", None))
    broken = kind(bench, f"{job}-{fault}", action)
    amount = len(whole.result)
    assert amount, "nothing to compare"
    assert broken.result == whole.result, f"{job} with {fault}: {differences(whole.result, broken.result)}"
    what = {"caption": "rows", "train": "steps", "embed": "rows", "evaluate": "samples"}[job]
    return table_row(
        job,
        done,
        f"0 of {amount} {what}, all equal to the unbroken job's",
        f"{broken.pause:.0f} s ({whole.pause:.0f})",
        f"{broken.seconds:.0f} s ({whole.seconds:.0f})",
        "-",
    )


def differences(one: Any, other: Any) -> str:
    """Say how two results differ."""
    if isinstance(one, dict):
        keys = sorted(set(one) | set(other))
        return str(
            [(key, one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)][:5]
        )
    unequal = (pair for pair in zip(one, other, strict=False) if pair[0] != pair[1])
    return f"{len(one)} and {len(other)} rows; first {next(unequal, None)}"
