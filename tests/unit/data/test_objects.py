"""A storage that fails is asked again; what cannot be had is told, never left half."""

import io
import os
import pickle

import pytest

from mats_ray.data import objects
from mats_ray.data.objects import ATTEMPTS, ATTEMPTS_REFUSED, fetch_into, open_storage, persistently
from mats_ray.errors import DataError
from tests.faults import faults
from tests.s3 import s3_server

DATA = os.urandom(10_000)
FAULTS = ["500", "503", "reset", "truncated"]
LASTING = [*FAULTS, "short", "expired"]


@pytest.fixture
def no_waiting(monkeypatch):
    waited = []
    monkeypatch.setattr(objects.time, "sleep", waited.append)
    return waited


@pytest.fixture(scope="module")
def attempts():
    """A bucket behind a proxy; an object's name says what is wrong with it: always, or at first.

    Yields the attempts per object.
    """
    with s3_server("sounds") as files:
        for name in ("good", "every", "pieces", *LASTING):
            files.pipe_file(f"sounds/{name}", DATA)
        with faults(os.environ["AWS_ENDPOINT_URL"], _fault) as counted:
            yield counted


def _fault(key, attempt):
    match key.rpartition("/")[2]:
        case "every":
            return FAULTS[attempt - 1] if attempt < ATTEMPTS else None
        case "pieces":
            return FAULTS[attempt // 2 % len(FAULTS)] if attempt % 2 else None
        case name:
            return name if name in LASTING else None


def fetch(name, size=None):
    files, path = open_storage(f"s3://sounds/{name}")
    sink = io.BytesIO()
    fetch_into(sink, files, path, size or len(DATA))
    return sink.getvalue()


@pytest.mark.usefixtures("no_waiting")
def test_every_kind_of_trouble_passes(attempts):
    assert fetch("every") == DATA
    assert attempts["/sounds/every"] == ATTEMPTS


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.usefixtures("no_waiting")
def test_trouble_that_lasts_is_an_error(attempts, fault):
    with pytest.raises(OSError):  # noqa: PT011  (words of many libraries)
        fetch(fault)
    # aiohttp by itself tries a reset once more
    num_attempts = attempts[f"/sounds/{fault}"] // (2 if fault == "reset" else 1)
    assert num_attempts == (ATTEMPTS_REFUSED if fault == "expired" else ATTEMPTS)


@pytest.mark.parametrize("fault", ["503", "reset", "truncated"])
@pytest.mark.usefixtures("no_waiting")
def test_another_process_tries_no_more_often(attempts, fault):
    files, path = open_storage(f"s3://sounds/{fault}")
    sent = pickle.dumps(files)
    type(files).clear_instance_cache()  # or it would come back as it is
    before = attempts[f"/{path}"]

    with pytest.raises(OSError):  # noqa: PT011  (words of many libraries)
        fetch_into(io.BytesIO(), pickle.loads(sent), path, len(DATA))

    assert attempts[f"/{path}"] - before == ATTEMPTS * (2 if fault == "reset" else 1)


@pytest.mark.usefixtures("no_waiting")
def test_pieces_are_tried_again_alone(attempts, monkeypatch):
    monkeypatch.setattr(objects, "CHUNK_BYTES", 3_000)

    assert fetch("pieces") == DATA
    assert attempts["/sounds/pieces"] == 2 * 4


@pytest.mark.usefixtures("no_waiting", "attempts")
def test_an_object_replaced_since_it_was_listed_is_no_half_of_it(monkeypatch):
    with pytest.raises(OSError, match="gave 10000 bytes where 9000 were listed"):
        fetch("good", 9_000)
    monkeypatch.setattr(objects, "CHUNK_BYTES", 3_000)
    with pytest.raises(OSError, match="it has 10000 bytes, 9000 when it was listed"):
        fetch("good", 9_000)


def test_waits_grow_and_are_drawn(no_waiting):
    def fail():
        raise ConnectionResetError

    for _ in range(100):
        with pytest.raises(ConnectionResetError):
            persistently(fail)
    rounds = [no_waiting[start : start + 4] for start in range(0, 400, 4)]

    for longest, waits in zip([1, 2, 4, 8], zip(*rounds, strict=True), strict=True):
        assert 0 <= min(waits) < longest / 3 < 2 * longest / 3 < max(waits) <= longest


def test_what_is_gone_is_not_asked_for_again(no_waiting):
    def fail():
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        persistently(fail)
    assert no_waiting == []


def test_a_protocol_without_its_package_is_named():
    with pytest.raises(DataError, match="no access to gs:// paths"):
        open_storage("gs://bucket/clips")
