"""Every object is listed once, whatever the folders and the order of the store, and what is known of it."""

import random
from concurrent.futures import Future

import pyarrow as pa
import pytest

from mats_ray.errors import StorageError
from mats_ray.storage import s3_shards, write_bytes
from mats_ray.storage.s3_pages import SCHEMA, Page, read_page
from mats_ray.storage.s3_shards import S3Listing
from tests.s3 import s3_server

ROOT = "s3://sounds/in/"
PAGE = 3


class Store:
    """Keys below ``ROOT``, in pages of three; runs the calls of a listing at once, and notes them."""

    def __init__(self, names, *, order=sorted):
        self.uris, self.order, self.calls = [f"{ROOT}{name}" for name in names], order, []

    def submit(self, function, prefix, *, token=None, start_after="", delimiter=False, num_pages=1):
        self.calls.append((prefix.removeprefix(ROOT), token, start_after.removeprefix(ROOT)))
        start_after, start = token or (start_after, 0)
        uris = [uri for uri in self.order(self.uris) if uri.startswith(prefix) and uri > start_after]
        folders = []
        if delimiter:
            inside = {uri: uri.removeprefix(prefix).partition("/") for uri in uris}
            folders = list(dict.fromkeys(f"{prefix}{head}/" for head, slash, _ in inside.values() if slash))
            uris = [uri for uri, (_, slash, _) in inside.items() if not slash]
        size = PAGE * num_pages
        more = (start_after, start + size) if start + size < len(uris) else None
        rows = [{"path": uri, "size": 1, "etag": "e"} for uri in uris[start : start + size]]
        page = Page(objects=pa.Table.from_pylist(rows, schema=SCHEMA), prefixes=tuple(folders), token=more)
        future = Future()
        future.set_result(page)
        return future


def listed(store, **kwargs):
    listing = S3Listing(ROOT, **kwargs)
    listing.submit = store.submit
    return [path.removeprefix(ROOT) for table in listing.tables() for path in table["path"].to_pylist()]


def shuffled(seed):
    return lambda uris: random.Random(seed).sample(sorted(uris), len(uris))


FLAT = [f"{n:03d}.wav" for n in range(20)]
FOLDERS = [f"{folder}/{n}.wav" for folder in "abcdefghij" for n in range(7)] + ["z.wav"]
DEEP = [
    "top.wav",
    "2026/x.wav",
    *(f"2026/{month:02d}/{day}/{n}.wav" for month in (1, 2) for day in range(5) for n in range(4)),
]
ONE = ["only/one/object.wav"]
MARKERS = ["a/", "a/1.wav", "b/", "b/2.wav"]


@pytest.mark.parametrize(
    "names", [FLAT, FOLDERS, DEEP, ONE, []], ids=["flat", "folders", "deep", "one", "none"]
)
@pytest.mark.parametrize("order", [sorted, shuffled(0), shuffled(1)], ids=["sorted", "shuffled", "otherwise"])
def test_every_object_is_listed_once(names, order):
    assert sorted(listed(Store(names, order=order))) == sorted(names)


def test_markers_of_folders_are_no_objects():
    assert sorted(listed(Store(MARKERS))) == ["a/1.wav", "b/2.wav"]


def test_folders_are_listed_side_by_side():
    store = Store(DEEP)
    listed(store)

    assert {prefix for prefix, _, _ in store.calls} >= {
        f"2026/{month}/{day}/" for month in ("01", "02") for day in range(5)
    }


def test_given_prefixes_are_listed_and_nothing_else():
    assert sorted(listed(Store(FLAT), prefixes=["000", "01"])) == ["000.wav", *FLAT[10:]]


def test_what_is_new_comes_first_and_nothing_is_left_out():
    store = Store(FLAT)
    found = listed(store, resume_after=lambda prefix: f"{ROOT}015.wav")

    assert sorted(found) == FLAT
    assert found.index("016.wav") < found.index("003.wav")
    assert ("", None, "015.wav") in store.calls


@pytest.mark.parametrize("known", ["000.wav", "019.wav", "0155.wav", "zzz"])
@pytest.mark.parametrize("order", [sorted, shuffled(0)], ids=["sorted", "shuffled"])
def test_what_is_known_changes_no_listing(known, order):
    found = listed(Store(FLAT, order=order), resume_after=lambda prefix: f"{ROOT}{known}")

    assert sorted(found) == FLAT


def test_a_store_that_knows_no_starting_key_has_each_object_once():
    class Ignoring(Store):
        def submit(self, function, prefix, *, start_after="", **position):
            return super().submit(function, prefix, **position)

    found = listed(Ignoring(FLAT), resume_after=lambda prefix: f"{ROOT}015.wav")

    assert sorted(found) == FLAT


def test_a_store_that_ceases_to_be_sorted_is_refused():
    def at_first(uris):
        return [*sorted(uris)[:6], *sorted(uris)[8:12], *sorted(uris)[6:8], *sorted(uris)[12:]]

    with pytest.raises(
        StorageError, match=r"^s3://sounds/in/ is not listed in the order of its keys any more$"
    ):
        listed(Store(FLAT, order=at_first), resume_after=lambda prefix: f"{ROOT}015.wav")


def test_a_listing_that_changes_has_what_was_always_there():
    store = Store(FLAT)
    listing = S3Listing(ROOT)
    listing.submit = store.submit
    found = []
    for table in listing.tables():
        found += table["path"].to_pylist()
        store.uris += [f"{ROOT}new {len(found)}.wav"]

    assert {f"{ROOT}{name}" for name in FLAT} <= set(found)


def test_calls_go_where_they_are_sent_from_then_on():
    names = [f"{n:03d}.wav" for n in range(100)]
    store, other = Store(names), Store(names)
    listing = S3Listing(ROOT)
    listing.submit = store.submit
    found = []
    for table in listing.tables():
        found += table["path"].to_pylist()
        listing.submit = other.submit

    assert len(found) == len(names)
    assert other.calls


def test_a_page_of_a_real_server_has_names_as_they_are(monkeypatch):
    monkeypatch.setattr(s3_shards, "MIN_SHARDS", 1)
    names = ["a.wav", "d/e.wav", "ü & <b>.wav", "x y+z%41.wav", "q?versionId=3#.wav"]
    with s3_server("sounds") as files:
        for name in names:
            write_bytes(f"{ROOT}{name}", b"123")
        page = read_page(ROOT, delimiter=True)
        found = [row for table in S3Listing(ROOT).tables() for row in table.to_pylist()]
        with pytest.raises(StorageError, match=r"^s3://no-such-bucket/ cannot be listed: "):
            read_page("s3://no-such-bucket/")
        assert [one["Key"] for one in files.call_s3("list_objects_v2", Bucket="sounds")["Contents"]]

    assert page.prefixes == (f"{ROOT}d/",)
    assert sorted(one["path"] for one in found) == sorted(f"{ROOT}{name}" for name in names)
    assert {(one["size"], len(one["etag"]), '"' in one["etag"]) for one in found} == {(3, 32, False)}
