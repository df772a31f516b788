"""A whole captioning job on a bucket in trouble: retried, then a row with an error, never left out."""

import io
import os
import threading
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.caption.on_ray import caption
from mats_ray.errors import DataError
from mats_ray.storage import ATTEMPTS, ATTEMPTS_REFUSED
from tests.faults import faults
from tests.integration.test_caption import config, encoded, sound
from tests.s3 import s3_server

pytestmark = pytest.mark.ray

PASSING = ["500", "503", "reset", "truncated"]
LASTING = [*PASSING, "short", "expired"]
NUM_GOOD = 6
NAMES = [f"good {n}" for n in range(NUM_GOOD)]
NAMES += [f"once {fault}" for fault in PASSING] + [f"always {fault}" for fault in LASTING]


class NamedFaults:
    """Faults by the name of a file, until ``healed`` is set."""

    healed = False

    def __call__(self, key, attempt):
        name = key.rpartition("/")[2].removesuffix(".wav")
        when, _, fault = name.partition(" ")
        if when == "once" or key in {"/sounds", "/sounds/"} or name.startswith("part-"):
            return fault if when == "once" and attempt == 1 else "503" if attempt == 1 else None
        return fault if when == "always" and not self.healed else None


class Expiry:
    """Keys that are refused after some reads, for reading and writing, until they are renewed."""

    def __init__(self):
        self.renewed, self.read = False, set()
        self.lock = threading.Lock()  # the storage answers several at a time

    def __call__(self, key, attempt):
        with self.lock:
            if key.endswith(".wav") and len(self.read) < NUM_GOOD:
                self.read.add(key)
            concerned = key.endswith(".wav") or "part-" in key
            expired = concerned and len(self.read) == NUM_GOOD and key not in self.read
        return "expired" if expired and not self.renewed else None


@contextmanager
def bucket_of(names):
    with s3_server("sounds") as files:
        for n, name in enumerate(names):
            files.pipe_file(f"sounds/in/{name}.wav", encoded(sound(n)))
        yield files


def job(model_dir, *, num_decoders):
    # several at once: a file that fails for good needs some seconds
    settings = config(batch_size=1, decode_concurrency=num_decoders)
    return lambda: caption(settings, audio="s3://sounds/in", out="s3://sounds/out", model=str(model_dir))


def rows_in(files):
    files.invalidate_cache()
    parts = [io.BytesIO(files.cat_file(path)) for path in files.glob("sounds/out/*.parquet")]
    rows = pa.concat_tables([pq.read_table(part) for part in parts]).to_pylist() if parts else []
    return {row["path"].rpartition("/")[2].removesuffix(".wav"): row for row in rows}, len(rows)


@pytest.mark.slow
def test_trouble_is_retried_or_an_error_row_and_the_next_run_retries_that(ray_cluster, model_dir):
    trouble = NamedFaults()
    with (
        bucket_of(NAMES) as bucket,
        faults(os.environ["AWS_ENDPOINT_URL"], trouble, methods=("GET", "PUT")) as attempts,
    ):
        run = job(model_dir, num_decoders=4)
        first = run()
        rows, num_rows = rows_in(bucket)
        tried = {name: attempts[f"/sounds/in/{name}.wav"] for name in NAMES}
        trouble.healed = True
        attempts.clear()
        second = run()
        after, num_after = rows_in(bucket)
        tried_again = {key for key in attempts if key.endswith(".wav")}

    lasting = {f"always {fault}" for fault in LASTING}
    assert (first.rows, first.errors) == (len(NAMES), {"read_failed": len(LASTING)})
    assert num_rows == len(rows) == len(NAMES)
    assert {name for name, row in rows.items() if row["status"] == "error"} == lasting
    assert all(name in rows[name]["error"] for name in lasting)
    assert all(tried[f"once {fault}"] > 1 for fault in PASSING)
    for fault in LASTING:
        assert tried[f"always {fault}"] >= (ATTEMPTS_REFUSED if fault == "expired" else ATTEMPTS), fault

    assert (second.rows, second.ok, second.written) == (len(NAMES), len(NAMES), len(LASTING))
    assert num_after == len(after) == len(NAMES)
    assert tried_again == {f"/sounds/in/{name}.wav" for name in lasting}
    assert {name: row for name, row in after.items() if name not in lasting} == {
        name: row for name, row in rows.items() if name not in lasting
    }


@pytest.mark.slow
def test_keys_that_expire_half_way_lose_nothing(ray_cluster, model_dir):
    names, expiry = [f"{n}" for n in range(NUM_GOOD + 3)], Expiry()
    with (
        bucket_of(names) as bucket,
        faults(os.environ["AWS_ENDPOINT_URL"], expiry, methods=("GET", "PUT")),
    ):
        run = job(model_dir, num_decoders=2)
        with pytest.raises(DataError, match=r"s3://sounds/out/part-\S+ cannot be written: .*expired"):
            run()
        expiry.renewed = True
        summary = run()
        rows, num_rows = rows_in(bucket)

    assert (summary.rows, summary.ok) == (len(names), len(names))
    assert num_rows == len(rows) == len(names)
