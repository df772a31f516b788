"""A CLAP directory answers like transformers' own classes, whatever the batch."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

from mats_ray.errors import AudioError, ModelError
from mats_ray.models.clap import load_clap
from tests.simulated_device import NAME, SimulatedDevice
from tests.unit.models.clap.small import noise

TEXTS = ["a dog barks", "rain falls on the roof while a siren wails and a bell rings", "bell", ""]


@pytest.fixture(scope="module")
def clap(clap_dir):
    return load_clap(clap_dir)


@pytest.fixture(scope="module")
def clips():
    return noise(64000, 20001, 100, 1)


def test_it_has_an_identity(clap):
    assert (clap.dim, clap.sample_rate, clap.window_seconds) == (24, 16000, 4.0)
    assert clap.identity.family == "transformers"
    assert len(clap.identity.checkpoint_hash) == 16
    assert clap.identity.dim == 24


def test_text_embedding_equals_that_of_transformers(clap, clap_dir):
    tokens = AutoTokenizer.from_pretrained(clap_dir)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = ClapModel.from_pretrained(clap_dir).get_text_features(
            tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )

    torch.testing.assert_close(clap.encode_text(TEXTS), expected.pooler_output, atol=2e-6, rtol=0)


def test_audio_embedding_equals_that_of_transformers(clap, clap_dir, clips):
    features = ClapFeatureExtractor.from_pretrained(clap_dir)(clips, sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        expected = ClapModel.from_pretrained(clap_dir).get_audio_features(features["input_features"])

    torch.testing.assert_close(clap.encode_audio(clips, 16000), expected.pooler_output, atol=1e-5, rtol=0)


def test_text_embedding_does_not_depend_on_padding_or_batch(clap):
    alone = torch.cat([clap.encode_text([text]) for text in TEXTS])

    for batch_size in (1, 3, 64):
        together = clap.encode_text(TEXTS, batch_size=batch_size)
        torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


def test_audio_embedding_does_not_depend_on_batch(clap, clips):
    alone = torch.cat([clap.encode_audio([clip], 16000) for clip in clips])

    for batch_size in (1, 3, 16):
        together = clap.encode_audio(clips, 16000, batch_size=batch_size)
        torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


def test_embeddings_are_unit_float32(clap, clips):
    for embeddings in (clap.encode_text(TEXTS), clap.encode_audio(clips, 22050)):
        assert embeddings.dtype == torch.float32
        torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(len(embeddings)))


def test_unnormalised_embeddings_point_the_same_way(clap, clips):
    raw = clap.encode_audio(clips[:2], 16000, normalize=False)

    assert (raw.norm(dim=-1) - 1).abs().min() > 1e-3
    torch.testing.assert_close(
        raw / raw.norm(dim=-1, keepdim=True), clap.encode_audio(clips[:2], 16000), atol=2e-6, rtol=0
    )


def test_different_inputs_give_different_embeddings(clap, clips):
    assert (clap.encode_text(TEXTS[:2]) @ clap.encode_text(TEXTS[:2]).T)[0, 1] < 0.99
    assert (clap.encode_audio(clips[:2], 16000) @ clap.encode_audio(clips[:2], 16000).T)[0, 1] < 0.9999


def test_no_input_gives_no_rows(clap):
    assert clap.encode_text([]).shape == (0, 24)
    assert clap.encode_audio([], 16000).shape == (0, 24)


def test_a_long_text_is_cut_to_the_towers_length(clap):
    long = " ".join(["dog"] * 200)

    torch.testing.assert_close(clap.encode_text([long]), clap.encode_text([" ".join(["dog"] * 36)]))


def test_long_audio_is_the_mean_of_its_windows_weighted_by_length(clap, clips):
    head, tail = clips[0], clips[1]
    parts = clap.encode_audio([head, tail], 16000)
    mean = torch.tensor([64000.0, 20001.0]) @ parts

    windows = clap.encode_audio([np.concatenate([head, tail])], 16000)

    torch.testing.assert_close(windows[0], mean / mean.norm(), atol=2e-6, rtol=0)


def test_first_and_center_encode_one_window(clap):
    long = np.random.default_rng(1).uniform(-0.5, 0.5, 100_001).astype(np.float32)
    expected = clap.encode_audio([long[:64000], long[18000:82000]], 16000)

    first = clap.encode_audio([long], 16000, long_audio="first")
    center = clap.encode_audio([long], 16000, long_audio="center")

    torch.testing.assert_close(torch.cat([first, center]), expected, atol=2e-6, rtol=0)


def test_an_empty_clip_is_an_audio_error(clap):
    with pytest.raises(AudioError, match=r"^clip 1 has no samples$") as caught:
        clap.encode_audio([np.zeros(0, np.float32)], 16000)
    assert caught.value.code == "empty"


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("long_audio", ["windows", "first"])
@pytest.mark.parametrize("height", [3e29, 1e38])
def test_a_clip_without_a_finite_embedding_is_an_audio_error_that_names_it(
    clap, clips, height, long_audio, normalize
):
    """Finite samples whose power overflows float32; in "windows" it is the second one's."""
    huge = np.concatenate([clips[0], clips[0] * np.float32(height)])
    if long_audio == "first":
        huge = huge[::-1].copy()
    names = ["a.wav", "huge.wav", "b.wav"]
    options = {"long_audio": long_audio, "normalize": normalize}

    with pytest.raises(
        AudioError, match=r"^huge\.wav: its CLAP embedding is not finite; .* reach "
    ) as caught:
        clap.encode_audio([clips[0], huge, clips[1]], 16000, names=names, **options)

    assert caught.value.code == "not_finite"
    with pytest.raises(AudioError, match=r"^clip 2: "):
        clap.encode_audio([clips[0], huge, clips[1]], 16000, **options)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("quantize_int16", [False, True])
def test_samples_that_are_not_finite_are_an_audio_error(clap_dir, clips, value, quantize_int16):
    """Rounded to 16 bits they would be ordinary numbers."""
    clip = clips[0].copy()
    clip[100] = value

    with pytest.raises(
        AudioError, match=r"^clip 1 has samples that are NaN, infinite or overflow$"
    ) as caught:
        load_clap(clap_dir, quantize_int16=quantize_int16).encode_audio([clip], 16000)
    assert caught.value.code == "not_finite"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38, 0.0])
def test_an_embedding_without_a_direction_is_an_error_of_text_and_of_audio(clap_dir, clips, value):
    """Broken weights: 1e38 is finite in each component, and its length is not."""
    clap = load_clap(clap_dir)
    for head in (clap.towers.clap.text_projection, clap.towers.clap.audio_projection):
        head.linear2.weight.data.zero_()
        head.linear2.bias.data.fill_(value)

    with pytest.raises(ModelError, match=r"the embedding of the text 'a dog barks' is not finite$"):
        clap.encode_text(["a dog barks", "rain"])
    with pytest.raises(AudioError, match="not finite"):
        clap.encode_audio(clips[:1], 16000)


def test_stereo_is_refused(clap):
    with pytest.raises(ValueError, match="mono"):
        clap.encode_audio([np.zeros((2, 100), np.float32)], 16000)


def test_work_can_be_ended_before_each_forward_pass(clap, monkeypatch):
    sizes, embed = [], clap._embed_pieces

    def counted(pieces, *, center):
        sizes.append(len(pieces))
        return embed(pieces, center=center)

    def before_batch():
        if len(sizes) == 2:
            raise KeyError("cancelled")

    monkeypatch.setattr(clap, "_embed_pieces", counted)
    with pytest.raises(KeyError, match="cancelled"):
        clap.encode_audio(noise(64_000 * 7), 16_000, batch_size=2, before_batch=before_batch)

    assert sizes == [2, 2]


def test_convolutions_are_exact_on_a_gpu_too(clap, clips, monkeypatch):
    """Else cuDNN rounds them to TF32, and embeddings of one identity would differ by device."""
    allowed, original = [], type(clap)._embed_pieces

    def watched(*args, **kwargs):
        allowed.append(torch.backends.cudnn.allow_tf32)
        return original(*args, **kwargs)

    monkeypatch.setattr(type(clap), "_embed_pieces", watched)
    before = torch.backends.cudnn.allow_tf32

    clap.encode_audio(clips[:1], 16000)

    assert allowed == [False]
    assert torch.backends.cudnn.allow_tf32 is before


@pytest.mark.parametrize("family", ["clap_dir", "laion_file", "fused_file", "msclap_file"])
def test_no_tensor_of_a_tower_is_made_on_another_device(family, request):
    """PE-AV cannot be simulated, as transformers makes tensors from lists; ``tests/gpu`` has it."""
    clap = load_clap(request.getfixturevalue(family))
    clips = noise(64000, 20001)
    ids, mask = clap.tokens.pad([[0, 2], [0, 2, 2]])
    expected = clap.encode_audio(clips, 16000), clap.encode_tokens(ids, mask)
    with torch.no_grad(), SimulatedDevice():  # which knows no inference mode
        there = clap.to(NAME)
        found = type(clap).encode_audio.__wrapped__(there, clips, 16000)
        ids, mask = ids.to(NAME), mask.to(NAME)
        embedded = type(clap).encode_tokens.__wrapped__(there, ids, mask)
        assert str(found.device) == str(embedded.device) == NAME
        found, embedded = found.cpu(), embedded.cpu()

    torch.testing.assert_close(found, expected[0])
    torch.testing.assert_close(embedded, expected[1])
