"""PE-AV through ``load_clap`` gives transformers' stored numbers; the installed version still does, too."""

import json

import numpy as np
import pytest
import torch

from mats_ray.models.clap import load_clap
from tests.golden.clap_checkpoints import assert_near, wave
from tests.golden.pe_audio_reference import IDS, LENGTHS
from tests.golden.recipe import golden_files
from tests.pe_audio import SAMPLE_RATE, reference_audio, reference_text, save_rest, small_config, small_model

TOLERANCE = 2e-6
"""Largest difference between numbers that one machine computes."""
STORED = 3e-5
"""Largest difference to numbers that another computed: transformers' own differ by 1.0e-05 between an Intel
and an AMD CPU."""


@pytest.fixture(scope="module", params=golden_files("pe_audio"))
def golden(request):
    return np.load(request.param)


def model_of(golden, **text):
    return small_model(small_config(**text), salt=json.loads(str(golden["meta"]))["salt"])


@pytest.fixture(scope="module")
def clap(golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pe_audio")
    model_of(golden).save_pretrained(folder)
    save_rest(folder)
    return load_clap(folder)


def sounds(golden):
    return [wave(golden[f"clip_{index}"]) for index in range(len(LENGTHS))]


def test_audio_in_one_batch(clap, golden):
    found = clap.encode_audio(sounds(golden), SAMPLE_RATE, normalize=False)

    assert_near(found, golden["audio"], STORED, "PE-AV audio")


def test_text_in_one_batch(clap, golden):
    ids, mask = clap.tokens.pad(IDS)

    assert_near(clap.encode_tokens(ids, mask, normalize=False), golden["text"], TOLERANCE, "PE-AV text")


def test_the_installed_transformers_gives_the_stored_numbers(golden, clap):
    model = model_of(golden, tie_last_hidden_states=False)
    texts = [torch.tensor([ids]) for ids in IDS]

    audio = torch.stack([reference_audio(model, clip) for clip in sounds(golden)])
    assert_near(audio, golden["audio"], STORED, "transformers' audio")
    found = clap.encode_audio(sounds(golden), SAMPLE_RATE, normalize=False)
    assert_near(found, audio, TOLERANCE, "PE-AV audio on this machine")
    text = torch.cat([reference_text(model, ids) for ids in texts])
    assert_near(text, golden["text"], TOLERANCE, "transformers' text")


def test_transformers_reads_texts_behind_the_last_norm_unless_told_otherwise(golden):
    """If this fails, it reads them again as it did when PE-AV was published."""
    text = torch.cat([reference_text(model_of(golden), torch.tensor([ids])) for ids in IDS])

    assert_near(text, golden["text_behind_norm"], TOLERANCE, "transformers' text by default")
    assert np.abs(golden["text_behind_norm"] - golden["text"]).max() > 1e-2
