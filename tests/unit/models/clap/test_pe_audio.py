"""PE-AV embeds as transformers' ``forward`` does of each input alone, whatever the batch."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    PeAudioFeatureExtractor,
    PeAudioFrameLevelModel,
    PeAudioModel,
    PeAudioProcessor,
)

from mats_ray.errors import AudioError, ModelError
from mats_ray.models.clap import load_clap
from mats_ray.models.clap.pe_audio import MAX_TEXT_TOKENS, WINDOW_SECONDS, reflect_pad
from tests.pe_audio import (
    DIM,
    SAMPLE_RATE,
    reference_audio,
    reference_text,
    save_pe_audio,
    save_with_video,
    small_config,
    small_model,
)
from tests.unit.models.clap.small import noise

TEXTS = ["a dog barks", "rain falls on the roof while a siren wails and a bell rings", "bell", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_pe_audio(tmp_path_factory.mktemp("pe_audio"))


@pytest.fixture(scope="module")
def clap(folder):
    return load_clap(folder)


@pytest.fixture(scope="module")
def reference():
    """Transformers' model, its text tower read before the last norm."""
    config = small_config(tie_last_hidden_states=False)
    return small_model(config, salt="seed0")


@pytest.fixture(scope="module")
def clips():
    return noise(100_000, 50_001, 1_921, 7, 1)


@pytest.fixture
def broken(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "pe_audio")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_it_has_an_identity(clap):
    assert (
        (clap.dim, clap.sample_rate, clap.window_seconds)
        == (DIM, SAMPLE_RATE, WINDOW_SECONDS)
        == (24, 48_000, 10)
    )
    assert (clap.identity.family, clap.identity.dim) == ("pe_audio", 24)


# Numbers


def test_audio_is_what_transformers_forward_gives_of_a_clip_alone(clap, reference, clips):
    expected = torch.stack([reference_audio(reference, clip) for clip in clips])

    found = clap.encode_audio(clips, SAMPLE_RATE, normalize=False)

    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    assert (found[0] - found[1]).abs().max() > 1e-2


def test_an_embedding_does_not_depend_on_its_batch(clap, clips):
    alone = torch.cat([clap.encode_audio([clip], SAMPLE_RATE) for clip in clips])

    for batch_size in (1, 2, 16):
        together = clap.encode_audio(clips, SAMPLE_RATE, batch_size=batch_size)
        torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


def test_transformers_own_batches_do_change_a_shorter_clip(reference, clips):
    """Its codec reads the zeros behind the shorter one: why ours reads clips one by one."""
    inputs = PeAudioFeatureExtractor()(clips[:2], sampling_rate=SAMPLE_RATE, return_tensors="pt")
    with torch.inference_mode():
        batched = reference.get_audio_embeds(**inputs)

    alone = torch.stack([reference_audio(reference, clip) for clip in clips[:2]])
    difference = (batched - alone).abs().amax(dim=1)
    assert difference[0] < 1e-5
    assert difference[1] > 1e-4


def test_text_equals_transformers_forward_to_the_bit(clap, reference, folder):
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    expected = reference_text(reference, ids, mask)

    assert torch.equal(clap.encode_tokens(ids, mask, normalize=False), expected)
    torch.testing.assert_close(clap.encode_text(TEXTS, normalize=False), expected, atol=2e-6, rtol=0)


def test_the_text_method_of_transformers_still_fails(reference):
    """If it does not any more, ``PeAudioTowers.embed_text`` may call it."""
    with pytest.raises(TypeError):
        reference.get_text_audio_embeds(torch.tensor([[0, 5, 2]]))


def test_a_text_tower_that_says_so_is_read_behind_its_last_norm(broken, clap):
    config = json.loads((broken / "config.json").read_text())
    config["text_config"]["tie_last_hidden_states"] = True
    edit(broken / "config.json", **config)
    ids = torch.tensor([[0, 5, 6, 2]])
    as_transformers = PeAudioModel.from_pretrained(broken).eval()

    found = load_clap(broken).encode_tokens(ids, torch.ones_like(ids), normalize=False)

    assert torch.equal(found, reference_text(as_transformers, ids))
    assert (found - clap.encode_tokens(ids, torch.ones_like(ids), normalize=False)).abs().max() > 1e-3


def test_text_does_not_depend_on_padding_or_batch(clap):
    alone = torch.cat([clap.encode_text([text]) for text in TEXTS])

    for batch_size in (1, 3, 64):
        torch.testing.assert_close(clap.encode_text(TEXTS, batch_size=batch_size), alone, atol=2e-6, rtol=0)


def test_it_survives_pickling_after_use(clap, clips):
    expected = clap.encode_text(TEXTS), clap.encode_audio(clips[:1], SAMPLE_RATE)

    copy = pickle.loads(pickle.dumps(clap))

    assert torch.equal(copy.encode_text(TEXTS), expected[0])
    assert torch.equal(copy.encode_audio(clips[:1], SAMPLE_RATE), expected[1])


def test_a_text_is_cut_to_512_tokens_and_not_to_77(clap):
    words = ["dog"] * 600
    assert torch.equal(
        clap.encode_text([" ".join(words)]), clap.encode_text([" ".join(words[: MAX_TEXT_TOKENS - 2])])
    )
    longer = words[:100]
    other = [*longer[:90], "bell", *longer[91:]]

    one, changed = clap.encode_text([" ".join(longer), " ".join(other)])

    assert (one - changed).abs().max() > 1e-5


def test_embeddings_are_unit_float32_and_none_for_nothing(clap, clips):
    for embeddings in (clap.encode_text(TEXTS), clap.encode_audio(clips, 22_050)):
        assert embeddings.dtype == torch.float32
        torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(len(embeddings)))
    assert clap.encode_text([]).shape == clap.encode_audio([], 16_000).shape == (0, DIM)


def test_long_audio_is_the_mean_of_windows_of_ten_seconds(clap):
    head, tail = noise(480_000, 120_000)
    parts = clap.encode_audio([head, tail], SAMPLE_RATE)
    mean = torch.tensor([0.8, 0.2]) @ parts
    long = np.concatenate([head, tail])

    windows, first = (
        clap.encode_audio([long], SAMPLE_RATE, long_audio=way)[0] for way in ("windows", "first")
    )

    torch.testing.assert_close(windows, mean / mean.norm(), atol=2e-6, rtol=0)
    torch.testing.assert_close(first, parts[0], atol=2e-6, rtol=0)


def test_a_clip_is_lengthened_to_whole_frames_by_its_own_end():
    np.testing.assert_array_equal(reflect_pad(np.arange(5.0), 4), [0, 1, 2, 3, 4, 3, 2, 1])
    np.testing.assert_array_equal(reflect_pad(np.arange(4.0), 4), np.arange(4))
    np.testing.assert_array_equal(reflect_pad(np.ones(1), 4), np.ones(4))


def test_audio_can_be_rounded_to_16_bits_first(folder, clap, clips):
    rounded = load_clap(folder, quantize_int16=True).encode_audio(clips[:1], SAMPLE_RATE)

    assert 0 < (rounded - clap.encode_audio(clips[:1], SAMPLE_RATE)).abs().max() < 1e-3


@pytest.mark.parametrize("height", [1e38])
def test_a_clip_without_a_finite_embedding_is_named(clap, clips, height):
    with pytest.raises(AudioError, match=r"^clip 2: its CLAP embedding is not finite") as caught:
        clap.encode_audio([clips[1], clips[1] * np.float32(height)], SAMPLE_RATE)
    assert caught.value.code == "not_finite"


# Checkpoints


def test_a_model_of_frames_embeds_a_clip_as_the_mean_of_them(tmp_path, clap, clips):
    frames = load_clap(save_pe_audio(tmp_path / "frames", cls=PeAudioFrameLevelModel))
    reference = small_model(cls=PeAudioFrameLevelModel, salt="seed0")
    expected = torch.stack([reference_audio(reference, clip).mean(0) for clip in clips])

    found = frames.encode_audio(clips, SAMPLE_RATE, normalize=False)

    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    assert (found - clap.encode_audio(clips, SAMPLE_RATE, normalize=False)).abs().max() > 1e-2


def test_the_audio_part_of_a_model_with_video_is_the_same_model(tmp_path, clap, clips):
    with_video = load_clap(save_with_video(tmp_path / "pe_av"))

    assert torch.equal(with_video.encode_audio(clips, SAMPLE_RATE), clap.encode_audio(clips, SAMPLE_RATE))
    assert torch.equal(with_video.encode_text(TEXTS), clap.encode_text(TEXTS))
    assert with_video.identity.family == "pe_audio"


def test_what_transformers_reads_of_a_model_with_video_is_the_same_audio_part(tmp_path, clips, clap):
    """As its documentation loads PE-AV: the audio class on the whole directory's weights."""
    folder = save_with_video(tmp_path / "pe_av")
    theirs, info = PeAudioModel.from_pretrained(folder, config=small_config(), output_loading_info=True)

    assert not info["missing_keys"]
    torch.testing.assert_close(
        reference_audio(theirs.eval(), clips[0]),
        clap.encode_audio(clips[:1], SAMPLE_RATE, normalize=False)[0],
        atol=2e-6,
        rtol=0,
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_stored_in_half_precision_are_computed_in_float32(tmp_path, clap, clips, dtype):
    half = load_clap(save_pe_audio(tmp_path / "half", dtype=dtype))

    assert {parameter.dtype for parameter in half.towers.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in half.towers.parameters())
    for found, expected in (
        (half.encode_audio(clips[:2], SAMPLE_RATE), clap.encode_audio(clips[:2], SAMPLE_RATE)),
        (half.encode_text(TEXTS), clap.encode_text(TEXTS)),
    ):
        assert (found * expected).sum(-1).min() > 0.99


def test_what_transformers_processor_saves_is_the_same_front_end(broken, folder, clap):
    (broken / "preprocessor_config.json").unlink()
    parts = PeAudioFeatureExtractor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    PeAudioProcessor(*parts).save_pretrained(broken)
    assert not (broken / "preprocessor_config.json").exists()

    assert torch.equal(load_clap(broken).encode_text(TEXTS), clap.encode_text(TEXTS))


def test_tensors_that_do_not_fit_are_named_in_one_line(broken):
    state = load_file(broken / "model.safetensors")
    del state["text_audio_head.proj.weight"]
    state["audio_head.proj.weight"] = torch.ones(5, 7)
    state["video_model.norm.weight"] = torch.ones(1)
    save_file(state, broken / "model.safetensors")

    with pytest.raises(ModelError) as caught:
        load_clap(broken)
    message = str(caught.value)
    assert "1 tensors missing: text_audio_head.proj.weight" in message
    assert "1 tensors unknown: video_model.norm.weight" in message
    assert "audio_head.proj.weight is (5, 7), not (24, 32)" in message
    assert "\n" not in message


def test_tensors_of_a_model_with_video_are_named_as_in_its_file(tmp_path):
    folder = save_with_video(tmp_path / "pe_av")
    state = load_file(folder / "model.safetensors")
    del state["audio_model.audio_head.proj.weight"], state["text_model.final_norm.weight"]
    save_file(state | {"audio_head.gain": torch.ones(1)}, folder / "model.safetensors")

    with pytest.raises(
        ModelError,
        match=r"2 tensors missing: audio_model\.audio_head\.proj\.weight, text_model\.final_norm\.weight; "
        r"1 tensors unknown: audio_head\.gain",
    ):
        load_clap(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sampling_rate": 0}, "sampling_rate is 0, not from 1 to 192000"),
        ({"sampling_rate": "48k"}, "sampling_rate is 48k, not from 1 to 192000"),
        ({"sampling_rate": 10**9}, "sampling_rate is 1000000000, not from 1 to 192000"),
        ({"hop_length": 960}, "hop_length is 960, the audio tower's is 1920"),
    ],
)
def test_a_front_end_that_does_not_fit_is_named(broken, change, complaint):
    edit(broken / "preprocessor_config.json", **change)

    with pytest.raises(ModelError, match=rf"preprocessor_config\.json: {complaint}$"):
        load_clap(broken)


def test_settings_that_make_no_sense_are_one_line(broken):
    config = json.loads((broken / "config.json").read_text())
    config["audio_config"]["hidden_size"] = "wide"
    edit(broken / "config.json", **config)

    with pytest.raises(ModelError, match=rf"the CLAP in {broken} cannot be loaded: .*hidden_size") as caught:
        load_clap(broken)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_may_come_from_elsewhere_and_must_fit(broken, folder, tmp_path, clap):
    for file in broken.glob("tokenizer*"):
        file.unlink()
    (broken / "special_tokens_map.json").unlink(missing_ok=True)

    assert torch.equal(load_clap(broken, tokenizer=str(folder)).encode_text(TEXTS), clap.encode_text(TEXTS))
    with pytest.raises(ModelError, match="texts need a tokenizer"):
        load_clap(broken).encode_text(TEXTS)
