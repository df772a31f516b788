"""A million objects below one prefix: time and memory of listing them and of planning the job.

    python -m benchmarks.bench_listing --objects 1000000 --model out/demo/model

The store is a process that answers ListObjectsV2 with pages of 1,000 made-up keys, over HTTP and in S3's XML;
the client is s3fs as always. Memory is that of the planning process alone, above what it held with everything
loaded.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

PAGE = 1_000


class Store(BaseHTTPRequestHandler):
    """A store that lists a given number of keys below ``clips/``."""

    protocol_version = "HTTP/1.1"
    num_objects = 0

    def do_GET(self) -> None:
        """Answer ListObjectsV2."""
        query = parse_qs(urlparse(self.path).query)
        start = int(query.get("continuation-token", ["0"])[0])
        stop = min(start + PAGE, self.num_objects)
        keys = "".join(
            f"<Contents><Key>clips/2026/recorder-{n % 977:03d}/take-{n:08d}.wav</Key>"
            f"<LastModified>2026-11-22T00:00:00.000Z</LastModified><ETag>&quot;{n:032x}&quot;</ETag>"
            f"<Size>{100_000 + n % 1000}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for n in range(start, stop)
        )
        more = "" if stop == self.num_objects else f"<NextContinuationToken>{stop}</NextContinuationToken>"
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>b</Name><Prefix>clips/</Prefix><KeyCount>{stop - start}</KeyCount>"
            f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{keys}{more}</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def serve(num_objects: int, port: Any) -> None:
    """Be the store."""
    Store.num_objects = num_objects
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    port.put(server.server_port)
    server.serve_forever()


def peak_mb() -> float:
    """Return the peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--model", default="out/demo/model")
    parser.add_argument("--find", action="store_true", help="list by s3fs's own find() instead")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    store = context.Process(target=serve, args=(args.objects, port), daemon=True)
    store.start()
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-central-1"}
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port.get()}"
    from mats_ray.caption.job import CaptionJob
    from mats_ray.config.caption import CaptionConfig
    from mats_ray.data.audio_files import list_audio
    from mats_ray.storage import locate

    files: Any = locate("s3://b/clips")[0]
    files.call_s3("list_objects_v2", Bucket="b", Prefix="clips/")
    before, started = peak_mb(), time.perf_counter()
    if args.find:
        found: Any = files.find("b/clips", detail=True)
    else:
        found = list_audio("s3://b/clips")
    seconds = time.perf_counter() - started
    more = f"{peak_mb() - before:.0f} MB more than {before:.0f} MB"
    print(f"listing {len(found)} objects: {seconds:.0f} s, {more}")
    if args.find:
        sys.exit()
    del found
    started = time.perf_counter()
    settings = CaptionConfig()
    job = CaptionJob.plan(settings, audio="s3://b/clips", out="/nowhere", model=args.model, create=False)
    planned, at_plan = time.perf_counter() - started, peak_mb() - before
    started = time.perf_counter()
    batches = job.missing_files()
    seconds = time.perf_counter() - started
    print(f"planning it: {planned:.0f} s, {at_plan:.0f} MB more")
    print(f"its {len(batches)} batches: {seconds:.0f} s more, {peak_mb() - before:.0f} MB in all")
    store.terminate()


if __name__ == "__main__":
    main()
