"""MS-CLAP's habits: its text ending, its padding that is a real token, its front end."""

import numpy as np
import pytest
import torch

from mats_ray.errors import ModelError
from mats_ray.models.clap import load_clap
from mats_ray.models.clap.msclap import MSCLAPTokens
from tests.unit.models.clap.small import (
    msclap_state,
    noise,
    save_gpt2_tokenizer,
    save_msclap,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpt2")
    return str(path), save_gpt2_tokenizer(path)


@pytest.fixture(scope="module")
def clap(tmp_path_factory, tokenizer):
    ref, vocab_size = tokenizer
    file = save_msclap(tmp_path_factory.mktemp("msclap") / "CLAP.pth", msclap_state(vocab_size))
    return load_clap(file, tokenizer=ref)


@pytest.fixture
def tokens(tokenizer):
    ref, vocab_size = tokenizer
    return MSCLAPTokens(ref, owner="F", vocab_size=vocab_size, max_tokens=12, pad_id=0)


def test_every_text_ends_with_a_space_and_the_end_token(tokens):
    empty, word = tokens(["", "ab"])

    assert len(empty) == 2
    assert word[-2:] == empty


def test_exclamation_marks_are_never_merged(tokens):
    (ids,) = tokens(["a!!b"])

    assert ids[1:3] == [0, 0]


def test_only_what_exceeds_the_position_table_is_cut(tokens):
    long, fitting = tokens(["a" * 50, "a" * 10])

    assert long == fitting
    assert len(fitting) == 12


def test_the_state_used_is_that_of_the_count_of_ids_other_than_zero(clap):
    ids = torch.tensor([[5, 0, 7, 8]])  # a real "!" in the middle: index 2, not 3
    mask = torch.ones_like(ids)

    cut = clap.encode_tokens(ids[:, :3], mask[:, :3])
    # Three ids of which two count would be index 1; one more id after the end shifts it to 2.
    kept = clap.encode_tokens(ids, mask)

    states = clap.towers.text_model(input_ids=ids).last_hidden_state[0]
    expected = torch.nn.functional.normalize(clap.towers.text_projection(states[[1, 2]]), dim=-1)
    torch.testing.assert_close(torch.cat([cut, kept]), expected, atol=2e-6, rtol=0)


def test_text_embedding_does_not_depend_on_padding(clap):
    texts = ["Stop!!", "a dog barks", ""]
    alone = torch.cat([clap.encode_text([text]) for text in texts])

    torch.testing.assert_close(clap.encode_text(texts), alone, atol=2e-6, rtol=0)


def test_embeddings_are_long_unless_normalised(clap):
    clips = noise(10_000)

    raw = clap.encode_audio(clips, 44_100, normalize=False)

    assert raw.norm() > 2
    torch.testing.assert_close(
        clap.encode_audio(clips, 44_100), raw / raw.norm(dim=-1, keepdim=True), atol=2e-6, rtol=0
    )
    assert clap.encode_text(["a"], normalize=False).norm() > 2


def test_audio_is_resampled_by_sinc_and_repeated_to_seven_seconds(clap):
    assert (clap.clips.resampler, clap.clips.padding) == ("sinc", "repeat")
    assert (clap.sample_rate, clap.window_seconds, clap.clips.quantize_int16) == (44_100, 7, False)
    (clip,) = noise(100_000)
    whole = np.resize(clip, 308_700)

    torch.testing.assert_close(
        clap.encode_audio([clip], 44_100), clap.encode_audio([whole], 44_100), atol=2e-6, rtol=0
    )


def test_a_mel_bank_in_the_file_is_used_as_the_package_would(clap, tmp_path):
    bank = torch.rand(513, 64)
    state = msclap_state() | {"audio_encoder.base.htsat.logmel_extractor.melW": bank}

    other = load_clap(save_msclap(tmp_path / "file.pth", state))

    assert torch.equal(other.log_mel.bank_KM, bank)
    assert not torch.equal(clap.log_mel.bank_KM, bank)


def test_a_mel_bank_of_another_size_is_refused(tmp_path):
    state = msclap_state() | {"audio_encoder.base.htsat.logmel_extractor.melW": torch.ones(201, 64)}

    with pytest.raises(ModelError, match=r"logmel_extractor\.melW is \(201, 64\)"):
        load_clap(save_msclap(tmp_path / "file.pth", state))
