"""Tokenizers load in transformers, have the published sizes and ids, and give texts back."""

import pytest
from transformers import AutoTokenizer

from mats_ray.rehearsal.tokenizer_stand_ins import (
    write_gpt2_tokenizer,
    write_llama_tokenizer,
    write_modernbert_tokenizer,
    write_qwen_tokenizer,
)

TEXTS = [f"a dog barks {number} times, then rain falls on the roof" for number in range(200)]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    write_gpt2_tokenizer(folder, TEXTS)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    write_llama_tokenizer(folder, TEXTS)
    return AutoTokenizer.from_pretrained(folder)


def test_qwen_has_chatml(tmp_path):
    write_qwen_tokenizer(tmp_path, TEXTS)
    qwen = AutoTokenizer.from_pretrained(tmp_path)

    turn = [{"role": "user", "content": "a dog barks"}]
    text = qwen.apply_chat_template(turn, tokenize=False, add_generation_prompt=True, enable_thinking=False)

    assert len(qwen) == 151_669
    assert (qwen.eos_token_id, qwen.convert_tokens_to_ids("<|im_start|>")) == (151_645, 151_644)
    assert text == "<|im_start|>user\na dog barks<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def test_modernbert_puts_a_text_between_its_tokens(tmp_path):
    write_modernbert_tokenizer(tmp_path, TEXTS)
    modernbert = AutoTokenizer.from_pretrained(tmp_path)

    ids = modernbert("a dog barks")["input_ids"]

    assert (ids[0], ids[-1], modernbert.pad_token_id) == (50_281, 50_282, 50_283)
    assert modernbert.decode(ids, skip_special_tokens=True) == "a dog barks"


def test_gpt2_has_the_published_size_and_end(gpt2):
    assert len(gpt2) == 50_257
    assert gpt2.convert_tokens_to_ids("<|endoftext|>") == gpt2.eos_token_id == gpt2.bos_token_id == 50_256
    assert gpt2.convert_tokens_to_ids("!") == 0  # MS-CLAP pads with it


def test_llama_has_the_published_size_and_special_tokens(llama):
    assert len(llama) == 32_000
    assert [llama.unk_token_id, llama.bos_token_id, llama.eos_token_id] == [0, 1, 2]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("text", ["a dog barks", "USER: <Speech>", "Größe 12 🎵"])
def test_text_comes_back(name, text, request):
    tokenizer = request.getfixturevalue(name)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]

    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text
    assert max(ids) < 6_000  # no text becomes a filler


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_every_id_has_a_text(name, request):
    tokenizer = request.getfixturevalue(name)
    last = len(tokenizer) - 2

    assert "stand-in" in tokenizer.decode([last])
