"""The stand-in has the published shapes and transformers loads it whole."""

import pytest
import torch
from transformers import PeAudioConfig, PeAudioFrameLevelModel

from mats_ray.models.stand_in import is_stand_in
from mats_ray.rehearsal import pe_audio_stand_in
from mats_ray.rehearsal.pe_audio_stand_in import pe_audio_config, write_pe_audio


@pytest.mark.parametrize(
    ("ref", "millions"), [("facebook/pe-a-frame-small", 450), ("facebook/pe-a-frame-base", 560)]
)
def test_the_published_number_of_parameters(ref, millions):
    with torch.device("meta"):
        model = PeAudioFrameLevelModel(pe_audio_config(ref))

    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.12)


def test_transformers_loads_every_tensor(tmp_path, monkeypatch):
    sizes = {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2}
    audio = sizes | {"num_key_value_heads": 2, "head_dim": 32}
    small = PeAudioConfig(text_config=sizes, audio_config=audio)
    monkeypatch.setattr(pe_audio_stand_in, "pe_audio_config", lambda _: small)

    write_pe_audio("facebook/pe-a-frame-small", tmp_path, [f"a dog barks {n} times" for n in range(50)])
    _, found = PeAudioFrameLevelModel.from_pretrained(tmp_path, output_loading_info=True)

    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert is_stand_in(str(tmp_path))
