"""The toy tokenizer spells its own sentences shortly and any text at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from mats_ray.toy.tokenizer import BOS, EOS, PAD, UNK, train_tokenizer

SENTENCES = ["A dog barks while rain falls.", "Is there a dog?", "Rain falls, then a dog barks."]
TOKENIZER = train_tokenizer(SENTENCES, vocab_size=300, max_length=12)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_is_spelt_without_loss(text):
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]

    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text
    assert TOKENIZER.unk_token_id not in ids


@pytest.mark.parametrize("text", ["naïve café", "雨", "🐕 barks", "tab\there", "a\nb", "  two  spaces  "])
def test_unseen_words_are_tokenised_without_loss(text):
    assert TOKENIZER.decode(TOKENIZER(text, add_special_tokens=False)["input_ids"]) == text


def test_special_tokens_stand_where_roberta_expects_them():
    assert TOKENIZER.convert_tokens_to_ids([BOS, PAD, EOS, UNK]) == [0, 1, 2, 3]
    assert (TOKENIZER.bos_token_id, TOKENIZER.pad_token_id, TOKENIZER.eos_token_id) == (0, 1, 2)


def test_special_tokens_are_added_only_on_request():
    plain = TOKENIZER("a dog", add_special_tokens=False)["input_ids"]

    assert TOKENIZER("a dog")["input_ids"] == [0, *plain, 2]
    assert not {0, 1, 2, 3} & set(plain)


def test_frequent_words_are_short():
    ids = TOKENIZER(" dog barks", add_special_tokens=False)["input_ids"]

    assert len(ids) < len(" dog barks") / 2


def test_long_texts_are_cut_to_what_a_model_reads():
    rows = TOKENIZER(["a dog", "dog " * 50], padding=True, truncation=True)["input_ids"]

    assert [len(row) for row in rows] == [12, 12]
    assert rows[0][-1] == 1
    assert rows[1][-1] == 2


def test_a_saved_tokenizer_is_the_same_one(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)

    assert again("A dog barks, 雨")["input_ids"] == TOKENIZER("A dog barks, 雨")["input_ids"]
    assert again.model_max_length == 12


def test_the_same_sentences_give_the_same_tokenizer():
    again = train_tokenizer(iter(SENTENCES), vocab_size=300, max_length=12)

    assert again.get_vocab() == TOKENIZER.get_vocab()
