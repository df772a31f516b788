"""An output folder, on a disk and in a bucket."""

import pytest

from mats_ray.caption import output
from tests.s3 import s3_server


@pytest.fixture(scope="module")
def bucket():
    with s3_server("rows"):
        yield "s3://rows"


@pytest.fixture(params=["local", "s3"])
def out(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "deep" / "out")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}/out"


@pytest.fixture
def at_once(monkeypatch):
    """Rows do not wait to be written."""
    monkeypatch.setattr(output, "FIRST_FLUSH_SECONDS", 0)
