"""A converted checkpoint gives the embeddings of the file it came from."""

import json

import pytest
import torch
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

from mats_ray.errors import ModelError
from mats_ray.models.clap import convert_clap, load_clap
from tests.unit.models.clap.small import (
    msclap_state,
    noise,
    save_gpt2_tokenizer,
    save_msclap,
    save_tokenizer,
)

TEXTS = ["a dog barks", "rain falls on the roof"]


@pytest.fixture
def tokenizer(tmp_path):
    save_tokenizer(tmp_path / "tokenizer")
    return str(tmp_path / "tokenizer")


@pytest.mark.parametrize("file", ["laion_file", "fused_file"])
def test_a_laion_file_becomes_a_transformers_directory(file, tokenizer, tmp_path, request):
    file = request.getfixturevalue(file)
    original = load_clap(file, tokenizer=tokenizer)
    clips = noise(30_000, 500_000)

    report = convert_clap(file, tmp_path / "out", tokenizer=tokenizer)
    converted = load_clap(tmp_path / "out")

    assert torch.equal(converted.encode_text(TEXTS), original.encode_text(TEXTS))
    for way in ("windows", "center"):
        assert torch.equal(
            converted.encode_audio(clips, 44_100, long_audio=way),
            original.encode_audio(clips, 44_100, long_audio=way),
        )
    assert report.source_hash == original.identity.checkpoint_hash
    assert report.tokenizer == tokenizer
    assert "audio_branch.head.bias" in report.left_out


def test_transformers_itself_reads_the_directory(laion_file, tokenizer, tmp_path):
    convert_clap(laion_file, tmp_path / "out", tokenizer=tokenizer)

    clap, info = ClapModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    extractor = ClapFeatureExtractor.from_pretrained(tmp_path / "out")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out")(TEXTS, padding=True, return_tensors="pt")
    clips = noise(30_000)
    mel = extractor(clips, sampling_rate=48_000, return_tensors="pt")["input_features"]
    with torch.inference_mode():
        text = clap.get_text_features(**tokens).pooler_output
        audio = clap.get_audio_features(mel).pooler_output

    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert clap.config.text_config.layer_norm_eps == 1e-5
    assert (extractor.frequency_min, extractor.truncation) == (50, "rand_trunc")
    ours = load_clap(laion_file, tokenizer=tokenizer, quantize_int16=False)
    torch.testing.assert_close(ours.encode_text(TEXTS), text, atol=2e-6, rtol=0)
    torch.testing.assert_close(ours.encode_audio(clips, 48_000), audio, atol=1e-5, rtol=0)


def test_an_msclap_file_becomes_a_directory(tmp_path):
    vocab_size = save_gpt2_tokenizer(tmp_path / "gpt2")
    bank = torch.rand(513, 64)
    state = msclap_state(vocab_size) | {"audio_encoder.base.htsat.logmel_extractor.melW": bank}
    file = save_msclap(tmp_path / "CLAP.pth", state)
    original = load_clap(file, tokenizer=str(tmp_path / "gpt2"))
    clips = noise(30_000, 400_000)

    report = convert_clap(file, tmp_path / "out", tokenizer=str(tmp_path / "gpt2"))
    converted = load_clap(tmp_path / "out")

    assert converted.identity.family == "msclap"
    assert torch.equal(converted.encode_text(["Stop!!", "a"]), original.encode_text(["Stop!!", "a"]))
    assert torch.equal(converted.encode_audio(clips, 48_000), original.encode_audio(clips, 48_000))
    assert report.left_out == ["logit_scale"]


def test_the_report_is_kept_and_notes_a_missing_tokenizer(laion_file, tmp_path):
    report = convert_clap(laion_file, tmp_path / "out")

    assert json.loads((tmp_path / "out" / "conversion.json").read_text())["family"] == "laion"
    assert report.tokenizer is None
    assert "NO tokenizer" in str(report)
    assert load_clap(tmp_path / "out").encode_audio(noise(100), 48_000).shape == (1, 24)


def test_a_configured_tokenizer_that_is_absent_is_an_error(laion_file, tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        convert_clap(laion_file, tmp_path / "out", tokenizer=str(tmp_path / "nowhere"))


def test_a_directory_with_something_in_it_is_left_alone(laion_file, tmp_path):
    (tmp_path / "file").write_text("mine")

    with pytest.raises(ModelError, match="not empty"):
        convert_clap(laion_file, tmp_path)


def test_a_directory_needs_no_conversion(clap_dir, tmp_path):
    with pytest.raises(ModelError, match=r"is a directory, which needs no conversion: pass it as clap\.ref$"):
        convert_clap(clap_dir, tmp_path / "out")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"no such file: .*none\.pt"):
        convert_clap(tmp_path / "none.pt", tmp_path / "out")
