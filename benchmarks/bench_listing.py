"""Millions of objects below one prefix: rate and memory of listing, planning, resuming and writing.

    python -m benchmarks.bench_listing --objects 1000000 10000000 --model out/demo/model

The store is a process that answers ListObjectsV2 with pages of 1,000 made-up keys in folders of 100,000, over
HTTP and in S3's XML; the client is the job's own. Each figure is measured in a process of its own, whose peak
memory is the driver's, Python and its libraries included.

    plan    list all objects and compare them with an empty output: ``mats caption --dry-run``
    resume  the same with an output that holds all rows but those of every folder's last 100 files: seconds
            until the first batch of new work, and until all is compared
    empty   a whole job over objects without bytes: as many rows are written
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

PAGE, FOLDER, NUM_NEW = 1_000, 100_000, 100
ROOT = "clips/2026/"
PARTS = ("plan", "resume", "empty")


def key(n: int) -> str:
    """Name object n; names ascend with n."""
    return f"{ROOT}{n // FOLDER:05d}/take-{n:09d}.wav"


class Store(BaseHTTPRequestHandler):
    """A store that lists a given number of keys."""

    protocol_version = "HTTP/1.1"
    num_objects = 0
    size = 100_000

    def do_GET(self) -> None:
        """Answer ListObjectsV2."""
        query = {name: values[0] for name, values in parse_qs(urlparse(self.path).query).items()}
        prefix, token = query.get("prefix", ""), query.get("continuation-token")
        first, end = self._range(prefix)
        if "delimiter" in query and not prefix.startswith(f"{ROOT}0"):
            folders = range(first // FOLDER, -(-end // FOLDER)) if prefix == ROOT else [None]
            names = [f"{ROOT}{one:05d}/" if one is not None else ROOT for one in folders]
            self._answer("".join(f"<CommonPrefixes><Prefix>{one}</Prefix></CommonPrefixes>" for one in names))
            return
        if "start-after" in query:
            first = int(query["start-after"].rpartition("-")[2].removesuffix(".wav")) + 1
        start = int(token) if token else first
        stop = min(start + PAGE, end)
        keys = "".join(
            f"<Contents><Key>{key(n)}</Key><LastModified>2026-11-22T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{n:032x}&quot;</ETag><Size>{self.size}</Size>"
            f"<StorageClass>STANDARD</StorageClass></Contents>"
            for n in range(start, stop)
        )
        more = "" if stop >= end else f"<NextContinuationToken>{stop}</NextContinuationToken>"
        self._answer(f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{keys}{more}")

    def _range(self, prefix: str) -> tuple[int, int]:
        folder = prefix.removeprefix(ROOT).strip("/")
        if prefix.startswith(ROOT) and folder:
            return int(folder) * FOLDER, min((int(folder) + 1) * FOLDER, self.num_objects)
        return 0, self.num_objects

    def _answer(self, text: str) -> None:
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>{text}'
            "</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


def serve(num_objects: int, size: int, port: Any) -> None:
    """Be the store."""
    Store.num_objects, Store.size = num_objects, size
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    port.put(server.server_port)
    server.serve_forever()


def peak_mb() -> float:
    """Return the peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def finished_rows(job: Any, num_objects: int) -> Iterator[Any]:
    """Yield tables of rows of all objects but the last of every folder."""
    import pyarrow as pa

    from mats_ray.caption.prompts import CAPTION
    from mats_ray.caption.rows import SCHEMA, Source, ok_row, to_table
    from mats_ray.types import Answer

    answer = Answer(text="A dog barks while rain falls on a roof.", num_tokens=10, finish_reason="stop")
    source = Source(path="", etag="", start_s=0.0, end_s=10.0)
    template = to_table([ok_row(source, CAPTION, job.provenance, answer)])
    for first in range(0, num_objects, FOLDER):
        numbers = range(first, min(first + FOLDER, num_objects) - NUM_NEW)
        table = pa.concat_tables([template] * 1).take(pa.array([0] * len(numbers)))
        columns = {
            "path": pa.array([f"s3://b/{key(n)}" for n in numbers]),
            "etag": pa.array([f"{n:032x}" for n in numbers]),
        }
        for name, values in columns.items():
            table = table.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), values)
        yield table


def measure(part: str, num_objects: int, model: str, out: str, results: Any) -> None:
    """Measure one part in this process."""
    from mats_ray.caption.job import CaptionJob
    from mats_ray.caption.on_ray import caption
    from mats_ray.config.caption import CaptionConfig

    settings, audio = CaptionConfig(max_error_fraction=1.0), "s3://b/clips"
    before, started = peak_mb(), time.perf_counter()
    found = {"first": 0.0}
    if part == "plan":
        CaptionJob(settings, audio=audio, out="/nowhere", model=model, create=False).forecast()
    elif part == "resume":
        job = CaptionJob(settings, audio=audio, out=out, model=model)
        with job:
            for _ in job.batches():
                found["first"] = found["first"] or time.perf_counter() - started
    else:
        caption(settings, audio=audio, out=out, model=model)
    found |= {"seconds": time.perf_counter() - started, "peak": peak_mb(), "before": before}
    results.put(found)


def prepare(num_objects: int, model: str, out: str) -> None:
    """Write the output of a job that is nearly done."""
    from mats_ray.caption.job import CaptionJob
    from mats_ray.caption.part_writer import PartWriter
    from mats_ray.config.caption import CaptionConfig

    settings = CaptionConfig()
    job = CaptionJob(settings, audio="s3://b/clips", out=out, model=model)
    with PartWriter(job.store, part_rows=settings.part_rows) as writer:
        for table in finished_rows(job, num_objects):
            writer.add(table)


def run(context: Any, target: Any, *arguments: Any) -> None:
    """Run a function in a process of its own."""
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{target.__name__} failed")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--model", default="out/demo/model")
    args = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-central-1"}
    context = multiprocessing.get_context("spawn")
    print("part    objects   seconds   objects/s   first batch   peak MB (before)", flush=True)
    for part in args.parts:
        peaks = list[float]()
        for num_objects in args.objects:
            port, results = context.Queue(), context.Queue()
            size = 0 if part == "empty" else Store.size
            store = context.Process(target=serve, args=(num_objects, size, port), daemon=True)
            store.start()
            os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port.get()}"
            with tempfile.TemporaryDirectory() as out:
                if part == "resume":
                    run(context, prepare, num_objects, args.model, out)
                run(context, measure, part, num_objects, args.model, out, results)
            found = results.get()
            store.terminate()
            peaks.append(found["peak"])
            print(
                f"{part:7} {num_objects:8}  {found['seconds']:8.1f}  {num_objects / found['seconds']:10.0f}"
                f"  {found['first']:12.1f}   {found['peak']:.0f} ({found['before']:.0f})",
                flush=True,
            )
        print(f"{part}: peak memory of the last against the first: {peaks[-1] / peaks[0]:.2f} x", flush=True)


if __name__ == "__main__":
    main()
