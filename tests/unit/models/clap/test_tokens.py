"""A tokenizer loads with the first text; where there is none, the error names the remedy."""

import time

import pytest
import torch

from mats_ray.errors import ModelError
from mats_ray.models.clap import load_clap
from mats_ray.models.clap.tokens import TextTokens
from tests.unit.models.clap.small import noise, save_tokenizer


def text_tokens(ref, *, vocab_size=40):
    return TextTokens(str(ref), owner="F.pt", vocab_size=vocab_size, max_tokens=8, pad_id=1)


def test_rows_are_padded_on_the_right(tmp_path):
    ids, mask = text_tokens(tmp_path).pad([[5, 6, 7], [8]])

    assert torch.equal(ids, torch.tensor([[5, 6, 7], [8, 1, 1]]))
    assert torch.equal(mask, torch.tensor([[1, 1, 1], [1, 0, 0]]))


def test_audio_needs_no_tokenizer_and_the_error_of_texts_names_a_remedy(laion_file):
    clap = load_clap(laion_file)
    started = time.monotonic()

    assert clap.encode_audio(noise(100), 48_000).shape == (1, 24)
    with pytest.raises(ModelError, match=r"'roberta-base' does not give one .*pass tokenizer=DIR"):
        clap.encode_text(["a dog"])
    assert time.monotonic() - started < 30  # no retries against a hub that is not there


def test_a_directory_without_tokenizer_files_is_named(tmp_path):
    with pytest.raises(ModelError, match=str(tmp_path)):
        text_tokens(tmp_path)(["a"])


def test_a_tokenizer_with_ids_that_have_no_embedding_is_refused(tmp_path):
    save_tokenizer(tmp_path)

    with pytest.raises(ModelError, match="has ids up to 16, its model has embeddings for 10"):
        text_tokens(tmp_path, vocab_size=10)(["a"])
