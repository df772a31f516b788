"""One tiny language model for all tests of training, and checkpoints that do not stay in /tmp."""

import tempfile

import pytest

from tests.world import tiny_llm


@pytest.fixture(scope="session")
def llm_path(tmp_path_factory):
    return str(tiny_llm(tmp_path_factory.mktemp("llm")))


@pytest.fixture(autouse=True)
def temporary_folders(tmp_path, monkeypatch):
    """The loop gives up its checkpoint folders; in unit tests nothing removes them."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
