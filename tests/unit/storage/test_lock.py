"""A folder is locked by one job; the error of the next one names it, unless it was killed."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mats_ray.errors import DataError, StorageError
from mats_ray.storage import list_files, locate, lock, lock_folder, read_bytes, remove, write_bytes
from mats_ray.storage.lock import HEARTBEAT_SECONDS, LOCK, STALE_SECONDS

HOLDER = """
import sys
from mats_ray.storage import lock_folder
with lock_folder(sys.argv[1], by="mats embed"):
    print("locked", flush=True)
    sys.stdin.read()
"""


def acquire(folder):
    with lock_folder(folder, by="mats caption"):
        return json.loads(read_bytes(f"{folder}/{LOCK}"))


def edit(folder, **facts):
    """Change the lock as if another machine held it."""
    there = json.loads(read_bytes(f"{folder}/{LOCK}"))
    write_bytes(f"{folder}/{LOCK}", json.dumps(there | facts).encode())


def test_a_folder_is_locked_and_released(base):
    holder = acquire(base)

    assert (holder["pid"], holder["by"]) == (os.getpid(), "mats caption")
    assert list(list_files(base)) == []
    acquire(base)


def test_the_error_of_a_second_job_names_the_holder(base):
    with lock_folder(base, by="mats embed"):
        with pytest.raises(
            DataError, match=f"^{base} is in use: `mats embed` on .*, process {os.getpid()}, since "
        ):
            acquire(base)
        with pytest.raises(DataError, match="is in use"):  # and did not remove it
            acquire(f"{base}/")


def test_a_job_that_fails_gives_it_back(base):
    def fail():
        with lock_folder(base, by="mats embed"):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    acquire(base)


def test_of_many_at_once_one_gets_it(base):
    start, done = threading.Barrier(8), threading.Event()

    def job(_):
        start.wait()
        try:
            with lock_folder(base, by="mats caption"):
                return done.wait(60)
        except DataError:
            return False

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(job, n) for n in range(8)]
        while sum(one.done() for one in running) < 7:
            time.sleep(0.01)
        done.set()

    assert sorted(one.result() for one in running) == [False] * 7 + [True]


def test_the_lock_of_a_killed_job_is_free(base):
    command = [sys.executable, "-c", HOLDER, base]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "locked\n"
        with pytest.raises(DataError, match=f"`mats embed` on .*, process {job.pid}, since"):
            acquire(base)
        job.kill()
        job.wait()

        acquire(base)


def test_a_job_on_another_machine_holds_the_lock_while_it_sends_heartbeats(base):
    with lock_folder(base, by="mats embed"):
        edit(base, place="another boot", host="far", beat=time.time() - STALE_SECONDS / 2)
        with pytest.raises(
            DataError, match=r"on far, .* \(last heartbeat 6\d s ago; free after 120 s without one\)"
        ):
            acquire(base)
        edit(base, beat=time.time() - STALE_SECONDS - 1)
        assert acquire(base)["by"] == "mats caption"


def test_a_lock_whose_process_id_is_in_use_again_is_free(base):
    with lock_folder(base, by="mats embed"):
        edit(base, started="1")
        acquire(base)


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b"{}", b"\xff\xfe"])
def test_a_file_that_is_no_lock_is_replaced(base, rubbish):
    write_bytes(f"{base}/{LOCK}", rubbish)

    acquire(base)


def test_the_lock_is_refreshed(base, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    with lock_folder(base, by="mats embed"):
        first = json.loads(read_bytes(f"{base}/{LOCK}") or b"{}")
        while json.loads(read_bytes(f"{base}/{LOCK}") or b"{}").get("beat") in {None, first.get("beat")}:
            pass
    assert STALE_SECONDS > 4 * HEARTBEAT_SECONDS


def test_a_job_whose_lock_was_replaced_ends_with_an_error(base, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    lost = threading.Event()
    monkeypatch.setattr(lock.logger, "error", lambda _: lost.set())

    def job():
        with lock_folder(base, by="mats embed"):
            remove(f"{base}/{LOCK}")
            write_bytes(f"{base}/{LOCK}", b"another job's")
            assert lost.wait(30)

    with pytest.raises(DataError, match=f"^{base} was taken over by another job, `mats embed` had"):
        job()
    assert read_bytes(f"{base}/{LOCK}") == b"another job's"


def test_a_store_without_conditional_requests(bucket, monkeypatch):
    call = locate(bucket)[0].call_s3
    refusal = type("ClientError", (Exception,), {"response": {"Error": {"Code": "NotImplemented"}}})

    def refuse(files, method, **request):
        if request.keys() & {"IfMatch", "IfNoneMatch"} and method == "put_object":
            raise OSError("A header you provided is not implemented") from refusal()
        return call(method, **request)

    monkeypatch.setattr("s3fs.S3FileSystem.call_s3", refuse)
    with (
        lock_folder(f"{bucket}/plain", by="mats embed"),
        pytest.raises(DataError, match="is in use: `mats embed`"),
    ):
        acquire(f"{bucket}/plain")
    acquire(f"{bucket}/plain")


@pytest.mark.usefixtures("bucket")
def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()

    for place, reason in {f"{tmp_path}/file": "File exists", "s3://gone/x": "no bucket of that name"}.items():
        with pytest.raises(StorageError, match=f"^{place}\\S* cannot be written: {reason}$"):
            acquire(place)


def test_a_job_that_slept_looks_before_it_writes(base, monkeypatch):
    def job():
        with lock_folder(base, by="mats caption") as held:
            held.check()  # no heartbeat is due
            remove(f"{base}/{LOCK}")
            write_bytes(f"{base}/{LOCK}", b"another job's")
            held.check()  # the lock was good a moment ago
            now = time.time()
            monkeypatch.setattr("mats_ray.storage.lock.time.time", lambda: now + STALE_SECONDS)
            with pytest.raises(DataError, match="was taken over by another job"):
                held.check()

    with pytest.raises(DataError, match="was taken over by another job"):
        job()
    assert read_bytes(f"{base}/{LOCK}") == b"another job's"


def test_a_job_that_slept_goes_on_where_nobody_took_its_folder(base, monkeypatch):
    with lock_folder(base, by="mats caption") as held:
        now = time.time()
        monkeypatch.setattr("mats_ray.storage.lock.time.time", lambda: now + STALE_SECONDS)
        held.check()
        assert json.loads(read_bytes(f"{base}/{LOCK}"))["beat"] == now + STALE_SECONDS
