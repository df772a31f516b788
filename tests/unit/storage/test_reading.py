"""Failed reads are retried; an object that cannot be read is an error, never half of it."""

import io
import os

import pytest

from mats_ray.errors import MissingError, StorageError
from mats_ray.storage import (
    ATTEMPTS,
    ATTEMPTS_REFUSED,
    access,
    download,
    fetch_into,
    open_input,
    read_bytes,
    reading,
    retries,
    write_bytes,
)
from tests.faults import faults
from tests.s3 import s3_server

DATA = os.urandom(10_000)
FAULTS = ["500", "503", "reset", "truncated"]
LASTING = [*FAULTS, "timeout", "short", "expired"]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """No waits between attempts, and short timeouts."""
    monkeypatch.setattr(retries.time, "sleep", lambda _: None)
    monkeypatch.setitem(access._S3_TIMEOUTS, "read_timeout", 1.5)


@pytest.fixture(scope="module")
def requests():
    """A bucket behind a proxy; the name of an object is its fault: always, or at first.

    Yields the requests per object.
    """
    with s3_server("sounds") as files:
        for name in ("good", "every", "pieces", "later", *LASTING):
            files.pipe_file(f"sounds/{name}", DATA)
        with faults(os.environ["AWS_ENDPOINT_URL"], _fault) as counted:
            yield counted


def _fault(key, attempt):
    match key.rpartition("/")[2]:
        case "every":
            return FAULTS[attempt - 1] if attempt < ATTEMPTS else None
        case "pieces" | "later":
            return FAULTS[attempt // 2 % len(FAULTS)] if attempt % 2 else None
        case name:
            return name if name in LASTING else None


def fetch(name, size=None, etag=""):
    sink = io.BytesIO()
    fetch_into(sink, f"s3://sounds/{name}", size=size or len(DATA), etag=etag)
    return sink.getvalue()


def num_attempts(requests, name):
    # aiohttp by itself tries a reset once more
    return requests[f"/sounds/{name}"] // (2 if name == "reset" else 1)


def test_every_kind_of_passing_fault_is_retried(requests):
    assert fetch("every") == DATA
    assert requests["/sounds/every"] == ATTEMPTS


@pytest.mark.parametrize("fault", LASTING)
def test_trouble_that_lasts_is_an_error(requests, fault):
    with pytest.raises(StorageError, match=f"^s3://sounds/{fault} cannot be read: "):
        fetch(fault)
    assert num_attempts(requests, fault) == (ATTEMPTS_REFUSED if fault == "expired" else ATTEMPTS)


def test_ranges_are_retried_separately(requests, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK_BYTES", 3_000)

    assert fetch("pieces") == DATA


@pytest.mark.usefixtures("requests")
def test_an_object_of_another_size_is_no_part_of_it():
    with pytest.raises(StorageError, match="gave 10000 bytes where 9000 were listed"):
        fetch("good", 9_000)


def test_what_is_gone_is_missing(requests):
    with pytest.raises(MissingError, match=r"^s3://sounds/nothing cannot be read"):
        fetch("nothing")
    assert requests["/sounds/nothing"] == 1
    for path in ("s3://sounds/nothing", "/nowhere/a"):
        for action in (read_bytes, open_input):
            with pytest.raises(MissingError, match=f"^{path} cannot be read: "):
                action(path)


@pytest.mark.parametrize("place", ["s3://sounds", "local"])
@pytest.mark.usefixtures("requests")
def test_any_part_of_a_file_can_be_read(place, tmp_path):
    path = f"{tmp_path if place == 'local' else place}/parts"
    write_bytes(path, DATA)
    with open_input(path) as stream:
        assert stream.size() == len(DATA)
        assert stream.read(10) == DATA[:10]
        stream.seek(-10, 2)
        assert stream.read(20) == DATA[-10:]
        assert stream.read(1) == b""
        stream.seek(5_000)
        assert stream.read() == DATA[5_000:]


@pytest.mark.usefixtures("requests")
def test_a_stream_outlives_trouble():
    with open_input("s3://sounds/later") as stream:
        assert b"".join(iter(lambda: stream.read(3_000), b"")) == DATA


@pytest.mark.parametrize("place", ["s3://sounds/folder", "local"])
@pytest.mark.usefixtures("requests")
def test_a_folder_is_fetched(place, tmp_path):
    folder = str(tmp_path / "there") if place == "local" else place
    for name in ("a", "deep/b#1"):
        write_bytes(f"{folder}/{name}", name.encode())

    download(folder, tmp_path / "here")

    assert (tmp_path / "here" / "a").read_bytes() == b"a"
    assert (tmp_path / "here" / "deep" / "b#1").read_bytes() == b"deep/b#1"
