"""CLAP's towers on the device against the published packages' own numbers, in float32 and in bfloat16.

Golden embeddings of MS-CLAP 2023 have length 32 and values up to 3.3. The tolerances are cosines: rounding to
bfloat16 moves an embedding by far less than another text or sound would.
"""

import json

import numpy as np
import pytest
import torch

from mats_ray.models.clap import LogMel, load_clap, repeat_pad
from mats_ray.models.clap.msclap import FRONT_END
from mats_ray.models.clap.tower_clap import TowerCLAP
from tests.golden.clap_checkpoints import parse, save_msclap, state_dict, wave
from tests.golden.recipe import GOLDEN

pytestmark = pytest.mark.gpu

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-3}
"""1 minus the cosine. Convolutions in float32 may round to TF32 on a card."""


@pytest.fixture(scope="module")
def golden():
    return {name: np.load(GOLDEN / f"msclap_{name}_dev.npz") for name in ("audio", "text")}


@pytest.fixture(scope="module")
def load(golden, tmp_path_factory, device):
    keys = parse(golden["audio"]["native_keys"]) | parse(golden["text"]["native_keys_small"])
    salt = json.loads(str(golden["audio"]["meta"]))["salt"]
    file = tmp_path_factory.mktemp("msclap") / "checkpoint.pth"
    save_msclap(file, state_dict(keys, salt, log_mel=LogMel.from_settings(FRONT_END)))

    def load(dtype):
        clap = load_clap(file).to(device)
        assert isinstance(clap, TowerCLAP)
        clap.towers.to(getattr(torch, dtype))
        return clap

    return load


def assert_same_direction(found, expected, dtype):
    expected = torch.as_tensor(expected)
    cosine = torch.cosine_similarity(found.float().cpu(), expected, dim=-1)
    assert (1 - cosine <= TOLERANCE[dtype]).all(), f"1 - cosine is {(1 - cosine).max():.1e}"


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_texts(load, golden, device, dtype):
    text = golden["text"]
    ids, mask = (torch.tensor(text[name]).long().to(device) for name in ("ids_small", "mask"))
    with torch.inference_mode():
        found = load(dtype).towers.embed_text(ids, mask)

    assert_same_direction(found, text["emb_small"], dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sounds(load, golden, device, dtype):
    audio, clap = golden["audio"], load(dtype)
    clips = [repeat_pad(wave(audio[f"clip_{name}"]), 308_700, "repeat") for name in "ab"]
    waves = torch.from_numpy(np.stack(clips)).to(device)
    with torch.inference_mode():
        mel = clap.log_mel(waves)[:, None].to(getattr(torch, dtype))
        found = clap.towers.embed_audio(mel, torch.zeros(2, dtype=torch.bool, device=device))

    assert_same_direction(found, np.stack([audio["emb_a"], audio["emb_b"]]), dtype)


def test_other_sounds_and_texts_are_farther_than_the_tolerance(golden):
    """A tolerance that any embedding met would say nothing."""
    sounds = np.stack([golden["audio"][f"emb_{name}"] for name in ("a", "b", "zeros", "stereo_a_rev")])
    for embeddings in (sounds, golden["text"]["emb_small"]):
        unit = torch.nn.functional.normalize(torch.as_tensor(embeddings), dim=-1)
        assert 1 - (unit @ unit.T).fill_diagonal_(0).max() > 3 * TOLERANCE["bfloat16"]
