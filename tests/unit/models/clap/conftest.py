"""Small CLAPs, written once."""

import huggingface_hub.constants
import pytest

from tests.unit.models.clap.small import laion_state, msclap_state, save_directory, save_laion, save_msclap


@pytest.fixture(autouse=True)
def empty_hub_cache(tmp_path, monkeypatch):
    """No test depends on what this machine has downloaded, or on a network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture(scope="session")
def clap_dir(tmp_path_factory):
    return save_directory(tmp_path_factory.mktemp("clap"))


@pytest.fixture(scope="session")
def laion_file(tmp_path_factory):
    return save_laion(tmp_path_factory.mktemp("laion") / "best.pt", laion_state())


@pytest.fixture(scope="session")
def fused_file(tmp_path_factory):
    return save_laion(tmp_path_factory.mktemp("fused") / "best.pt", laion_state(fusion=True))


@pytest.fixture(scope="session")
def msclap_file(tmp_path_factory):
    return save_msclap(tmp_path_factory.mktemp("msclap") / "CLAP.pth", msclap_state())
