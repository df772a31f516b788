"""A folder is held by one job; the next one is told by whom, unless that job was killed."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mats_ray.errors import DataError, StorageError
from mats_ray.storage import held, list_files, locate, lock, read_bytes, remove, write_bytes
from mats_ray.storage.lock import HEARTBEAT_SECONDS, LOCK, STALE_SECONDS

HOLDER = """
import sys
from mats_ray.storage import held
with held(sys.argv[1], by="mats embed"):
    print("held", flush=True)
    sys.stdin.read()
"""


def take(folder):
    with held(folder, by="mats caption"):
        return json.loads(read_bytes(f"{folder}/{LOCK}"))


def edit(folder, **facts):
    """As if another machine held it."""
    there = json.loads(read_bytes(f"{folder}/{LOCK}"))
    write_bytes(f"{folder}/{LOCK}", json.dumps(there | facts).encode())


def test_a_folder_is_held_and_given_back(base):
    holder = take(base)

    assert (holder["pid"], holder["by"]) == (os.getpid(), "mats caption")
    assert list(list_files(base)) == []
    take(base)


def test_the_second_job_is_told_who_holds_it(base):
    with held(base, by="mats embed"):
        with pytest.raises(
            DataError, match=f"^{base} is in use: `mats embed` on .*, process {os.getpid()}, since "
        ):
            take(base)
        with pytest.raises(DataError, match="is in use"):  # and did not take it away
            take(f"{base}/")


def test_a_job_that_fails_gives_it_back(base):
    def fail():
        with held(base, by="mats embed"):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    take(base)


def test_of_many_at_once_one_gets_it(base):
    start, done = threading.Barrier(8), threading.Event()

    def job(_):
        start.wait()
        try:
            with held(base, by="mats caption"):
                return done.wait(60)
        except DataError:
            return False

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(job, n) for n in range(8)]
        while sum(one.done() for one in running) < 7:
            time.sleep(0.01)
        done.set()

    assert sorted(one.result() for one in running) == [False] * 7 + [True]


def test_a_killed_job_holds_nothing(base):
    command = [sys.executable, "-c", HOLDER, base]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "held\n"
        with pytest.raises(DataError, match=f"`mats embed` on .*, process {job.pid}, since"):
            take(base)
        job.kill()
        job.wait()

        take(base)


def test_a_job_on_another_machine_holds_it_while_its_heart_beats(base):
    with held(base, by="mats embed"):
        edit(base, place="another boot", host="far", beat=time.time() - STALE_SECONDS / 2)
        with pytest.raises(
            DataError, match=r"on far, .* \(last heartbeat 6\d s ago; free after 120 s without one\)"
        ):
            take(base)
        edit(base, beat=time.time() - STALE_SECONDS - 1)
        assert take(base)["by"] == "mats caption"


def test_a_process_id_that_is_in_use_again_holds_nothing(base):
    with held(base, by="mats embed"):
        edit(base, started="1")
        take(base)


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b"{}", b"\xff\xfe"])
def test_what_is_no_lock_holds_nothing(base, rubbish):
    write_bytes(f"{base}/{LOCK}", rubbish)

    take(base)


def test_the_heart_beats(base, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    with held(base, by="mats embed"):
        first = json.loads(read_bytes(f"{base}/{LOCK}") or b"{}")
        while json.loads(read_bytes(f"{base}/{LOCK}") or b"{}").get("beat") in {None, first.get("beat")}:
            pass
    assert STALE_SECONDS > 4 * HEARTBEAT_SECONDS


def test_a_job_whose_folder_was_taken_over_is_told(base, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    lost = threading.Event()
    monkeypatch.setattr(lock.logger, "error", lambda _: lost.set())

    def job():
        with held(base, by="mats embed"):
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
    with held(f"{bucket}/plain", by="mats embed"), pytest.raises(DataError, match="is in use: `mats embed`"):
        take(f"{bucket}/plain")
    take(f"{bucket}/plain")


@pytest.mark.usefixtures("bucket")
def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()

    for place, reason in {f"{tmp_path}/file": "File exists", "s3://gone/x": "no bucket of that name"}.items():
        with pytest.raises(StorageError, match=f"^{place}\\S* cannot be written: {reason}$"):
            take(place)
