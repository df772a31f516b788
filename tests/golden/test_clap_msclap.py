"""MS-CLAP 2023's file through ``load_clap`` gives msclap's numbers, which the package does not normalise."""

import json

import numpy as np
import pytest
import torch
from transformers import GPT2Tokenizer

from mats_ray.models.clap import LogMel, load_clap, repeat_pad
from mats_ray.models.clap.msclap import FRONT_END, MSCLAPTokens
from tests.golden.clap_checkpoints import assert_near, grow, parse, save_msclap, state_dict, wave
from tests.golden.recipe import GOLDEN, golden_files

TOLERANCE = 5e-5  # on embeddings of length 32


@pytest.fixture(scope="module", params=golden_files("msclap_audio"))
def audio(request):
    return np.load(request.param)


@pytest.fixture(scope="module")
def text(audio):
    return np.load(GOLDEN / f"msclap_text_{salt_of(audio)}.npz")


def salt_of(golden):
    return json.loads(str(golden["meta"]))["salt"]


@pytest.fixture(scope="module")
def load(audio, tmp_path_factory):
    def load(text_keys):
        keys = parse(audio["native_keys"]) | text_keys
        log_mel = LogMel.from_settings(FRONT_END)
        file = tmp_path_factory.mktemp("msclap") / "checkpoint.pth"
        save_msclap(file, state_dict(keys, salt_of(audio), log_mel=log_mel))
        clap = load_clap(file)
        file.unlink()
        return clap

    return load


@pytest.fixture(scope="module")
def small(load, text):
    return load(parse(text["native_keys_small"]))


def gpt2(text, *, num_layers, inner):
    """Keys of a text tower with GPT-2's vocabulary."""

    def resize(name, shape):
        if name.endswith("wte.weight"):
            return (50257, 768)
        return tuple(inner if size == 512 else size for size in shape)

    return grow(
        parse(text["native_keys_small"]), r"caption_encoder\.base\.h", num_layers=num_layers, resize=resize
    )


def test_the_file_is_recognised_by_its_content(small):
    assert (small.identity.family, small.dim, small.sample_rate) == ("msclap", 1024, 44_100)
    assert small.window_seconds == 7


def assert_text_matches(clap, text, ids, mask, embeddings, what):
    ids, mask = torch.tensor(text[ids]).long(), torch.tensor(text[mask]).long()
    padded = clap.encode_tokens(ids, mask, normalize=False)
    assert_near(padded, text[embeddings], TOLERANCE, f"text {what}, padded to 77")
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        alone = clap.encode_tokens(ids[row : row + 1, :length], mask[row : row + 1, :length], normalize=False)
        assert_near(alone[0], text[embeddings][row], TOLERANCE, f"text {what}, row {row} alone")


def test_text_of_two_layers(small, text):
    assert_text_matches(small, text, "ids_small", "mask", "emb_small", "2 layers")


def test_text_of_gpt2_size(load, text):
    clap = load(gpt2(text, num_layers=12, inner=3072))

    assert_text_matches(clap, text, "ids_full", "mask", "emb_full", "12 layers")


def test_text_with_ids_of_the_real_vocabulary(load, text):
    clap = load(gpt2(text, num_layers=2, inner=512))

    assert_text_matches(clap, text, "tok_ids", "tok_mask", "tok_emb", "real ids")


def test_texts_become_the_ids_of_the_real_vocabulary(text, tmp_path):
    GPT2Tokenizer.from_pretrained(GOLDEN / "gpt2").save_pretrained(tmp_path)
    tokens = MSCLAPTokens(str(tmp_path), owner="F", vocab_size=50257, max_tokens=1024, pad_id=0)

    ids, mask = tokens.pad(tokens([str(each) for each in text["tok_texts"]]))

    np.testing.assert_array_equal(ids, text["tok_ids"][:, : ids.shape[1]])
    np.testing.assert_array_equal(mask, text["tok_mask"][:, : ids.shape[1]])


def test_log_mel(small, audio):
    window = repeat_pad(wave(audio["clip_a"]), 308_700, "repeat")
    mel = small.log_mel(torch.from_numpy(window)[None])[0]

    assert len(mel) == audio["logmel_frames"]
    assert_near(mel[::50], audio["logmel_a_every50"], 1e-4, "log-mel in dB")


def test_audio_latent(small, audio):
    window = repeat_pad(wave(audio["clip_a"]), 308_700, "repeat")
    mel = small.log_mel(torch.from_numpy(window)[None])
    with torch.inference_mode():
        latent = small.towers.audio_model(input_features=mel[:, None]).pooler_output[0]

    assert_near(latent, audio["latent_a"], 1e-5, "audio latent")


def test_audio(small, audio):
    a, b = wave(audio["clip_a"]), wave(audio["clip_b"])
    long = np.tile(b, 3)
    offset = int(audio["long_random_offset_py_seed9"])
    clips = {
        "a": a,
        "b": b,
        "zeros": np.zeros(44_100, np.float32),
        "long_random": long[offset : offset + 308_700],
        # The package reads a stereo file's channels one after the other.
        "stereo_a_rev": np.concatenate([a, 0.5 * a[::-1]]),
    }

    embeddings = small.encode_audio(list(clips.values()), 44_100, normalize=False)

    for name, embedding in zip(clips, embeddings, strict=True):
        assert_near(embedding, audio[f"emb_{name}"], TOLERANCE, f"audio {name}")
    for long_audio, name in (("first", "long_offset0"), ("center", "long_center")):
        embedding = small.encode_audio([long], 44_100, long_audio=long_audio, normalize=False)[0]
        assert_near(embedding, audio[f"emb_{name}"], TOLERANCE, f"audio {name}")


def test_normalised_on_request(small, audio):
    embedding = small.encode_audio([wave(audio["clip_a"])], 44_100)[0]
    expected = audio["emb_a"] / np.linalg.norm(audio["emb_a"])

    assert_near(embedding, expected, 2e-6, "audio a, normalised")
