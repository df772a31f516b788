"""Waits are drawn; what another attempt would not mend is not repeated; errors are one line."""

import os

import pytest

from mats_ray.errors import MissingError, StorageError
from mats_ray.storage import ATTEMPTS, ATTEMPTS_REFUSED, list_files, read_bytes, retries, retry, write_bytes
from mats_ray.storage.retries import storage_errors
from tests.faults import faults
from tests.s3 import s3_server


@pytest.fixture
def waits(monkeypatch):
    waited = []
    monkeypatch.setattr(retries.time, "sleep", waited.append)
    return waited


class Failing:
    """Fails always, and counts its calls."""

    def __init__(self, error):
        self.error, self.num_calls = error, 0

    def __call__(self):
        self.num_calls += 1
        raise self.error


def test_waits_grow_and_are_drawn(waits):
    for _ in range(100):
        with pytest.raises(ConnectionResetError):
            retry(Failing(ConnectionResetError()))
    rounds = [waits[start : start + 4] for start in range(0, 400, 4)]

    for longest, drawn in zip([1, 2, 4, 8], zip(*rounds, strict=True), strict=True):
        assert 0 <= min(drawn) < longest / 3 < 2 * longest / 3 < max(drawn) <= longest


@pytest.mark.parametrize(
    ("error", "num_calls"),
    [
        (ConnectionResetError(), ATTEMPTS),
        (ValueError(), ATTEMPTS),
        (PermissionError(), ATTEMPTS_REFUSED),
        (FileNotFoundError(), 1),
        (NotADirectoryError(), 1),
        (StorageError("in one line"), 1),
    ],
)
@pytest.mark.usefixtures("waits")
def test_attempts_by_kind_of_error(error, num_calls):
    failing = Failing(error)

    with pytest.raises(type(error)):
        retry(failing)

    assert failing.num_calls == num_calls


def test_a_warning_comes_before_each_wait(waits, caplog):
    with pytest.raises(OSError, match="No space"):
        retry(Failing(OSError(28, "No space left on device")), attempts=3, warn="/out/a")

    assert caplog.text.count("/out/a: No space left on device; trying again in ") == len(waits) == 2


def test_a_bucket_that_is_not_there_is_named(waits):
    with s3_server("store"):
        actions = {
            "read": read_bytes,
            "written": lambda path: write_bytes(path, b""),
            "listed": lambda path: list(list_files(path)),
        }
        for what, action in actions.items():
            with pytest.raises(MissingError, match=f"^s3://gone/a cannot be {what}: no bucket of that name$"):
                action("s3://gone/a")
    assert waits == []


def test_keys_and_passwords_are_in_no_error(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")

    with pytest.raises(StorageError) as raised, storage_errors("s3://b/a", "read"):
        raise ValueError('no endpoint "http://me:pass@host/b"\nsigned with hush')

    assert (
        str(raised.value)
        == 's3://b/a cannot be read: ValueError: no endpoint "http://***@host/b" signed with ***'
    )


@pytest.mark.usefixtures("waits")
def test_refused_keys_are_one_line_without_them():
    with s3_server("store") as files:
        files.pipe_file("store/a", b"")
        with (
            faults(os.environ["AWS_ENDPOINT_URL"], lambda *_: "denied"),
            pytest.raises(StorageError, match=r"^s3://store/a cannot be read: \w+: Access Denied$"),
        ):
            read_bytes("s3://store/a")
