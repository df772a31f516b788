"""CLAP's towers on the device against the published packages' own numbers, in float32 and in bfloat16.

The tolerances are cosines: rounding to bfloat16 moves an embedding by far less than another text or sound
would.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from mats_ray.models.clap import LogMel, laion, load_clap, msclap, repeat_pad
from mats_ray.models.clap.frontend import quantize_int16
from mats_ray.models.clap.pe_audio import reflect_pad
from tests.golden.clap_checkpoints import parse, save_laion, save_msclap, state_dict, wave
from tests.golden.pe_audio_reference import IDS
from tests.golden.recipe import GOLDEN
from tests.pe_audio import save_rest, small_config, small_model

pytestmark = pytest.mark.gpu

FLOAT32, BFLOAT16 = 1e-5, 2e-3
"""Tolerances: 1 minus the cosine."""


class Golden(NamedTuple):
    """A family's model, what goes into its towers, and the embeddings that come out."""

    clap: Any
    ids: Tensor
    mask: Tensor
    texts: Tensor
    audio: Callable[[Any], tuple[Tensor, Tensor]]
    """CLAP on its device to the two arguments of ``embed_audio``."""
    sounds: Tensor
    bfloat16: float = BFLOAT16
    """Tolerance of its sounds in bfloat16."""

    @property
    def is_one_dnn_right(self):
        """torch 2.13's oneDNN computes noise in a strided bfloat16 convolution of 8 channels (AMX)."""
        return self.bfloat16 == BFLOAT16


def stored(family, part):
    return np.load(GOLDEN / f"{family}_{part}_dev.npz")


def with_mel(family, module, save, keys, folder, *, window, fit, names):
    """Build a golden of MS-CLAP or LAION-CLAP."""
    audio, text = stored(family, "audio"), stored(family, "text")
    salt = json.loads(str(audio["meta"]))["salt"]
    state = state_dict(parse(audio[keys]) | parse(text["native_keys_small"]), salt, log_mel=module)
    save(folder / "checkpoint.pt", state)
    waves = torch.from_numpy(np.stack([fit(wave(audio[f"clip_{name}"]), window) for name in "ab"]))

    def mel(clap):
        found = clap.log_mel(waves.to(clap.device))[:, None]
        return found, torch.zeros(len(waves), dtype=torch.bool, device=clap.device)

    ids, mask = (torch.tensor(text[name]).long() for name in ("ids_small", "mask"))
    sounds = torch.as_tensor(np.stack([audio[name] for name in names]))
    return Golden(
        load_clap(folder / "checkpoint.pt"), ids, mask, torch.as_tensor(text["emb_small"]), mel, sounds
    )


def ms_clap(folder):
    return with_mel(
        "msclap",
        LogMel.from_settings(msclap.FRONT_END),
        save_msclap,
        "native_keys",
        folder,
        window=308_700,
        fit=lambda samples, window: repeat_pad(samples, window, "repeat"),
        names=("emb_a", "emb_b"),
    )


def laion_clap(folder):
    return with_mel(
        "laion",
        LogMel.from_settings(laion.front_end(fusion=False)),
        save_laion,
        "native_keys_base",
        folder,
        window=480_000,
        fit=lambda samples, window: repeat_pad(quantize_int16(samples), window),
        names=("emb_base_a", "emb_base_b"),
    )


def pe_audio(folder):
    numbers = np.load(GOLDEN / "pe_audio_dev.npz")
    small_model(small_config(), salt=json.loads(str(numbers["meta"]))["salt"]).save_pretrained(folder)
    save_rest(folder)
    clap: Any = load_clap(folder)
    clips = [reflect_pad(wave(numbers[f"clip_{index}"]), clap.towers.hop) for index in range(2)]

    def waveforms(clap):
        rows = torch.zeros(len(clips), 1, max(map(len, clips)))
        mask = torch.zeros(len(clips), rows.shape[2], dtype=torch.long)
        for row, clip in enumerate(clips):
            rows[row, 0, : len(clip)], mask[row, : len(clip)] = torch.from_numpy(clip), 1
        return rows.to(clap.device), mask.to(clap.device)

    ids, mask = clap.tokens.pad(IDS)
    sounds = torch.as_tensor(numbers["audio"][:2])
    # 27 convolutions of random weights and no norm before the transformer: the codec amplifies rounding
    return Golden(clap, ids, mask, torch.as_tensor(numbers["text"]), waveforms, sounds, bfloat16=3e-2)


@pytest.fixture(scope="module", params=[ms_clap, laion_clap, pe_audio], ids=lambda build: build.__name__)
def golden(request, tmp_path_factory, device):
    found = request.param(tmp_path_factory.mktemp("clap"))
    found.clap.to(device)
    return found


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request, golden):
    golden.clap.towers.to(getattr(torch, request.param))
    yield getattr(torch, request.param)
    golden.clap.towers.float()  # rounded, and again the same as the tests go from float32 to bfloat16


def assert_same_direction(found, expected, tolerance):
    cosine = torch.cosine_similarity(found.float().cpu(), expected, dim=-1)
    assert (1 - cosine <= tolerance).all(), f"1 - cosine is {(1 - cosine).max():.1e}"


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN:UserWarning")
def test_texts_and_sounds(golden, dtype):
    clap, is_exact = golden.clap, dtype == torch.float32
    features, other = golden.audio(clap)
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        texts = clap.towers.embed_text(golden.ids.to(clap.device), golden.mask.to(clap.device))
        with torch.backends.mkldnn.flags(enabled=is_exact or golden.is_one_dnn_right):
            sounds = clap.towers.embed_audio(features.to(dtype), other)

    assert_same_direction(texts, golden.texts, FLOAT32 if is_exact else BFLOAT16)
    assert_same_direction(sounds, golden.sounds, FLOAT32 if is_exact else golden.bfloat16)


def test_other_sounds_and_texts_are_farther_than_the_tolerance(golden):
    """A tolerance that any embedding met would say nothing."""
    for embeddings, tolerance in ((golden.sounds, golden.bfloat16), (golden.texts, BFLOAT16)):
        unit = torch.nn.functional.normalize(embeddings, dim=-1)
        nearest = (unit @ unit.T).fill_diagonal_(-1).max()
        assert 1 - nearest > 3 * tolerance
