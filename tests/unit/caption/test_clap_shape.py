"""A CLAP's window, operations and weights: by hand, and against transformers' own model without memory."""

import json
import math

import pytest
import torch
from transformers import PeAudioConfig, PeAudioModel

from mats_ray.caption import clap_shape as module
from mats_ray.caption.clap_shape import PUBLISHED, TOWERS, PEAudioShape, clap_shape
from mats_ray.config.model import CLAPConfig
from mats_ray.errors import ModelError
from mats_ray.models.clap import pe_audio
from tests.pe_audio import save_rest, save_with_video, small_config

TINY = PEAudioShape(
    width=8,
    num_layers=2,
    num_heads=2,
    mlp_dim=16,
    head_dim=4,
    codec_width=2,
    strides=(2, 5),
    codec_dim=3,
    text_width=4,
    text_layers=1,
    text_mlp_dim=6,
    vocab_size=10,
)


def published(size):
    """The configuration of a published PE-A-Frame."""
    width, layers, heads, mlp = TOWERS[size]
    return PeAudioConfig(
        text_config={},
        audio_config={
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": mlp,
        },
    )


@pytest.mark.parametrize(("size", "millions"), [("small", 450), ("base", 560), ("large", 1_400)])
def test_the_published_sizes_have_the_parameters_that_their_cards_say(size, millions):
    with torch.device("meta"):
        model = PeAudioModel(published(size))

    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.05)
    assert PEAudioShape(*TOWERS[size]).num_weights == pytest.approx(count, rel=0.002)
    assert model.text_audio_head.proj.weight.shape == (1_024, 1_024)
    assert model.audio_encoder.config.dac_config.hop_length == 1_920


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_the_operations_are_those_of_the_modules(size):
    """A multiply-add per weight of a linear layer and position; of a convolution, per output position."""
    from torch import nn

    with torch.device("meta"):
        model = PeAudioModel(published(size)).audio_encoder
    count, frames = 0.0, []

    def add(module, _, output):
        nonlocal count
        positions = output.numel() / output.shape[1 if isinstance(module, nn.Conv1d) else -1]
        count += 2 * positions * module.weight.numel()
        frames.append(positions)

    for part in model.modules():
        if isinstance(part, nn.Conv1d | nn.Linear):
            part.register_forward_hook(add)
    with torch.inference_mode():
        model(torch.zeros(1, 1, 480_000, device="meta"))

    width, layers, heads, _ = TOWERS[size]
    attention = 4 * layers * heads * 128 * 251**2
    assert clap_shape(CLAPConfig(ref=f"facebook/pe-av-{size}")).flops == pytest.approx(
        count + attention, rel=0.003
    )
    assert frames[-1] == 251
    assert width == model.config.hidden_size


def test_the_operations_of_a_tiny_shape_by_hand():
    """20 samples, 10 after the first stride, 2 frames, 3 positions.

    Codec: 7 x 2 x 20 + 28 x 4 x 20 + 28 x 16 x 10 + 2 x (3 x 64 + 8 x 3 + 3 x 8) = 280 + 2,240 + 4,480 + 480.
    Layers: 2 x 8 x (4 x 8 + 48) = 1,280 weights, 448 around them, at 3 positions: 5,184.
    Attention: 2 x 2 x 8 x 9 = 288.
    """
    assert TINY.layer_weights == 1_280
    assert TINY.flops(20) == 2 * (7_480 + 5_184 + 288)


@pytest.mark.parametrize(
    "name",
    ["facebook/pe-av-large", "facebook/pe-a-frame-large", "/models/pe-av-large-16-frame/", "PE-AV-Large"],
)
def test_published_models_are_known_by_name(name):
    found = clap_shape(CLAPConfig(ref=name))

    assert found.window_seconds == 10
    assert 5 < found.weights_gb < 6
    assert 80 < found.flops / module.HTSAT_FLOPS < 90


@pytest.mark.parametrize("name", [None, "CLAP_weights_2023.pth", "facebook/pe-av-huge", "my-pe-av-large", ""])
def test_every_other_clap_is_taken_for_htsat(name):
    msclap, laion = clap_shape(CLAPConfig(ref=name)), clap_shape(CLAPConfig(ref=name, dim=512))

    assert (msclap.window_seconds, laion.window_seconds) == (7, 10)
    assert msclap.flops == laion.flops == module.HTSAT_FLOPS
    assert msclap.weights_gb == laion.weights_gb == module.HTSAT_WEIGHTS_GB


def test_a_folder_is_read_in_both_layouts(tmp_path):
    save_with_video(tmp_path / "pe-av-large")  # the name of a folder says nothing
    (tmp_path / "frames").mkdir()
    small_config().save_pretrained(tmp_path / "frames")
    save_rest(tmp_path / "frames")

    found = [clap_shape(CLAPConfig(ref=str(tmp_path / name))) for name in ("pe-av-large", "frames")]

    assert found[0] == found[1]
    assert found[0].weights_gb < 1e-3
    (tmp_path / "frames" / "config.json").write_text('{"model_type": "clap"}')
    assert clap_shape(CLAPConfig(ref=str(tmp_path / "frames"))).flops == module.HTSAT_FLOPS


@pytest.mark.parametrize(
    "audio",
    [
        {"hidden_size": "wide"},
        {"num_hidden_layers": 0},
        {"intermediate_size": 2**40},
        {"dac_config": {"downsampling_ratios": [2, 0]}},
        {"dac_config": {"downsampling_ratios": [1_000, 1_000]}},
        {"dac_config": {"downsampling_ratios": 3}},
        [1],
    ],
)
def test_a_shape_that_makes_no_sense_is_one_line(tmp_path, audio):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "pe_audio", "audio_config": audio}))

    with pytest.raises(ModelError, match=r"no shape of a CLAP can be read from .*config\.json: ") as caught:
        clap_shape(CLAPConfig(ref=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_the_constants_are_the_encoders_own():
    assert {pe_audio.AUDIO, pe_audio.AUDIO_VIDEO} == module.PE_AUDIO
    assert module.PE_AUDIO_WINDOW_SECONDS == pe_audio.WINDOW_SECONDS
    assert math.prod(PEAudioShape(*TOWERS["small"]).strides) == 1_920
    assert PUBLISHED.fullmatch("pe-av-small-16-frame")
