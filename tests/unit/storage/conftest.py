"""A local folder and a prefix of a bucket, for tests that claim the same of both."""

import pytest

from tests.s3 import s3_server


@pytest.fixture(scope="module")
def bucket():
    with s3_server("store"):
        yield "s3://store"


@pytest.fixture(params=["local", "s3"])
def base(request, tmp_path):
    """A place of its own: a folder, or a prefix of a bucket."""
    if request.param == "local":
        return str(tmp_path / "place")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
