"""Pieces of a file, as one stream."""

import io
import os

import pytest

from mats_ray.data.decoders.segments import View, find_next, patched, read_at
from mats_ray.errors import AudioDecodeError

FILE = bytes(range(100))


@pytest.mark.parametrize("count", [1, 3, 7, 1000])
def test_a_view_is_its_pieces_in_a_row(count):
    view = View(io.BytesIO(FILE), [range(90, 100), b"new", b"", range(5)])

    read = b"".join(iter(lambda: view.read(count), b""))

    assert read == FILE[90:] + b"new" + FILE[:5]
    assert (view.seek(-6, os.SEEK_END), view.read(4)) == (12, b"w" + FILE[:3])
    assert view.read(100) == FILE[3:5]


@pytest.mark.parametrize(("offset", "whence"), [(-1, 0), (2**63, 0), (-2000, 1), (2**62, 2)])
def test_a_seek_to_where_no_file_reaches_does_nothing(offset, whence):
    view = View(io.BytesIO(FILE), [range(100)])
    view.seek(7)

    assert view.seek(offset, whence) == view.tell() == 7


def test_a_failed_read_is_raised_by_the_view():
    class Broken(io.BytesIO):
        def readinto(self, buffer):
            raise OSError(5, "Input/output error")

    view = View(Broken(FILE), [range(100)])

    assert view.read(10) == b""
    with pytest.raises(OSError, match="Input/output"), view.reraising():
        raise AudioDecodeError("what the reader made of it", code="truncated")


def test_patched_bytes_replace_others():
    pieces = patched(10, 20, {(15, 15): b"\0", (12, 14): b"ab"})

    assert View(io.BytesIO(FILE), pieces).read() == FILE[10:12] + b"ab" + FILE[14:15] + b"\0" + FILE[15:20]


def test_a_mark_is_found_across_blocks():
    data = bytes(2**20 - 2) + b"fLaC" + bytes(10)

    assert find_next(io.BytesIO(data), 0, len(data), b"fLaC") == 2**20 - 2
    assert find_next(io.BytesIO(data), 2**20, len(data), b"fLaC") == len(data)


@pytest.mark.parametrize("place", [-1, 100, 2**62, 2**70])
def test_there_is_nothing_outside(place):
    assert read_at(io.BytesIO(FILE), place, 4) == b""
