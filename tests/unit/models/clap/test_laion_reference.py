"""LAION's package runs only where it is chosen; without it the error names the command that installs it."""

import sys

import numpy as np
import pytest
import torch

from mats_ray.errors import ModelError
from mats_ray.models.clap import load_clap
from tests.unit.models.clap.small import laion_state, noise, save_laion

# Stands in for the package at the edge: the calls and dtypes of laion-clap 1.1.7, and its chatter.
PACKAGE = """
import numpy as np
import torch

print("downloading")

class CLAP_Module(torch.nn.Module):
    def __init__(self, enable_fusion=False, device=None, amodel="HTSAT-tiny", tmodel="roberta"):
        super().__init__()
        self.made_with = (enable_fusion, amodel)

    def load_ckpt(self, ckpt=None, model_id=-1, verbose=True):
        print("Load the specified checkpoint")
        self.loaded = ckpt

    def get_text_embedding(self, x, tokenizer=None, use_tensor=False):
        rows = torch.tensor([[float(len(text)), 1.0] + 22 * [0.0] for text in x])
        rows = torch.nn.functional.normalize(rows, dim=-1)
        return rows if use_tensor else rows.numpy()

    def get_audio_embedding_from_data(self, x, use_tensor=False):
        assert not use_tensor and all(isinstance(clip, np.ndarray) and len(clip) <= 480000 for clip in x)
        rows = np.array([[float(np.abs(clip).mean()), 1.0] + 22 * [0.0] for clip in x], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "laion_clap.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "laion_clap", raising=False)
    yield
    sys.modules.pop("laion_clap", None)


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    """A file whose audio tower has the width of HTSAT-tiny, by which the package's model is chosen."""
    return save_laion(tmp_path_factory.mktemp("laion") / "630k.pt", laion_state(fusion=True, width=96))


def test_without_the_package_the_error_names_the_command_to_install_it(tiny_file):
    with pytest.raises(ModelError, match=r"mats-ray\[laion\]"):
        load_clap(tiny_file, implementation="laion_clap")


def test_the_package_is_imported_only_where_it_is_chosen(package, tiny_file):
    load_clap(tiny_file)
    assert "laion_clap" not in sys.modules

    load_clap(tiny_file, implementation="laion_clap")
    assert "laion_clap" in sys.modules


def test_the_package_is_a_clap_like_any_other_and_prints_nothing(package, tiny_file, capsys):
    clap = load_clap(tiny_file, implementation="laion_clap")
    texts = ["a", "abc", "ab"]
    clips = noise(1000, 700_000)

    assert clap.module.made_with == (True, "HTSAT-tiny")
    assert clap.module.loaded == str(tiny_file)
    assert (clap.identity.family, clap.dim, clap.sample_rate) == ("laion", 24, 48_000)
    assert torch.equal(clap.encode_text(texts, batch_size=2), clap.encode_text(texts))
    assert clap.encode_audio(clips, 48_000).shape == (2, 24)
    assert clap.encode_audio([], 48_000).shape == clap.encode_text([]).shape == (0, 24)
    assert capsys.readouterr().out == ""


def test_both_implementations_make_the_same_embeddings_by_identity(package, tiny_file):
    assert load_clap(tiny_file, implementation="laion_clap").identity == load_clap(tiny_file).identity


def test_the_package_gets_no_file_that_we_would_not_read(package, tmp_path):
    file = tmp_path / "planted.pt"
    torch.save({"state_dict": {"audio_branch.x": np.random.default_rng}}, file)

    with pytest.raises(ModelError, match="refused"):
        load_clap(file, implementation="laion_clap")


def test_a_file_of_another_family_is_refused(msclap_file):
    with pytest.raises(ModelError, match="laion_clap"):
        load_clap(msclap_file, implementation="laion_clap")
