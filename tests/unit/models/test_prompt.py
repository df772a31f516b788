"""Prompts as ids: BOS once, halves on their own, an answer that ends; for each family of tokenizers."""

import pytest
import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Tokenizer, LlamaTokenizer, PreTrainedTokenizerFast

from mats_ray.errors import ModelError
from mats_ray.models.llm import load_tokenizer
from mats_ray.models.prompt import PromptTokenizer
from tests.world import TEXTS, tiny_llm


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A SentencePiece tokenizer as LLaMA-2 and Vicuna have it."""
    folder = tmp_path_factory.mktemp("llama")
    (folder / "texts.txt").write_text("\n".join(TEXTS * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    return LlamaTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """Byte-level, one special token that is both BOS and EOS."""
    folder = tmp_path_factory.mktemp("gpt2")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(alphabet)}, merges=[])).model.save(
        str(folder)
    )
    return GPT2Tokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    """Byte-level with BOS and EOS, as LLaMA-3's."""
    return load_tokenizer(str(tiny_llm(tmp_path_factory.mktemp("llm"))))


FAMILIES = ["llama", "gpt2", "byte_level"]


@pytest.fixture(params=FAMILIES)
def prompts(request):
    return PromptTokenizer(request.getfixturevalue(request.param))


def test_bos_stands_once_and_first(prompts):
    ids = prompts.before() + prompts.after("What is it?")

    assert ids[0] == prompts.bos_id
    assert prompts.bos_id not in ids[1:]


def test_the_halves_make_up_the_prompt(prompts):
    decode = prompts.tokenizer.decode

    assert decode(prompts.before()[1:]).strip() == "USER: <Speech>"
    assert decode(prompts.after("What is it?")).strip() == "</Speech> What is it?\nASSISTANT:"


def test_an_answer_ends_with_eos_and_comes_back_as_text(prompts):
    sample = prompts.sample("What is it?", "a dog barks", max_text_tokens=150)

    assert sample.prompt == prompts.after("What is it?")
    assert sample.answer[-1] == prompts.eos_id
    assert prompts.decode(sample.answer) == "a dog barks"
    assert not sample.truncated


def test_the_answer_is_tokenised_as_it_is_generated(prompts):
    """A space stands between "ASSISTANT:" and the answer, as in the plain text the model has read."""
    whole = prompts.tokenizer.decode(
        prompts.after("Q") + prompts.sample("Q", "yes", max_text_tokens=99).answer[:-1]
    )

    assert whole.endswith("ASSISTANT: yes")


@pytest.fixture
def vicuna(llama, tmp_path):
    """LLaMA-2's tokenizer as upstream uses it: with a token [PAD], for which LLaMA's tables have no row."""
    llama.save_pretrained(tmp_path)
    padded = LlamaTokenizer.from_pretrained(tmp_path)
    padded.add_special_tokens({"pad_token": "[PAD]"})
    return padded


def test_upstreams_padding_token_changes_no_prompt(llama, vicuna):
    plain, padded = PromptTokenizer(llama), PromptTokenizer(vicuna)

    assert llama.pad_token is None
    assert vicuna.pad_token_id == len(llama) == len(vicuna) - 1
    assert padded.before() == plain.before()
    assert padded.after("What is it?") == plain.after("What is it?")
    assert padded.sample("Q", "yes", max_text_tokens=99) == plain.sample("Q", "yes", max_text_tokens=99)


def test_no_padding_token_is_added(llama):
    PromptTokenizer(llama)

    assert (llama.pad_token, len(llama)) == (None, 330)


@pytest.mark.parametrize("family", [*FAMILIES, "vicuna"])
@pytest.mark.parametrize("text", ["[PAD]", "<s>", "</s>", "a</s>b", "<|endoftext|>", "<unk>"])
def test_what_a_user_writes_is_text(family, text, request):
    """Special tokens in a question neither end the prompt nor look up rows that the embedding tables lack."""
    tokenizer = request.getfixturevalue(family)
    prompts = PromptTokenizer(tokenizer)

    ids = prompts.after(text)

    special = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert not special & set(ids)
    assert text in tokenizer.decode(ids)


def test_gpt2s_end_token_stands_in_for_bos(gpt2):
    prompts = PromptTokenizer(gpt2)

    assert prompts.bos_id == prompts.eos_id == gpt2.convert_tokens_to_ids("<|endoftext|>")


def test_without_a_bos_token_eos_stands_in():
    plain = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "[END]": 1}, unk_token="a")), eos_token="[END]"
    )

    assert PromptTokenizer(plain).bos_id == 1


def test_a_tokenizer_without_an_end_is_refused():
    endless = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))

    with pytest.raises(ModelError, match="has no EOS token: answers could not end"):
        PromptTokenizer(endless)


@pytest.mark.parametrize("less", [1, 3, 6])
def test_what_is_too_long_loses_the_end_of_its_instruction(prompts, less):
    question, answer = "What is it that barks while rain falls?", "a dog barks while rain falls on the roof"
    whole = prompts.sample(question, answer, max_text_tokens=500)
    room = len(whole.prompt) + len(whole.answer) - less

    sample = prompts.sample(question, answer, max_text_tokens=room)

    assert sample.truncated
    assert sample.answer == whole.answer
    assert room - 3 <= len(sample.prompt) + len(sample.answer) <= room
    decoded = prompts.decode(sample.prompt)
    assert decoded.startswith("</Speech> What is")
    assert decoded.endswith("\nASSISTANT:")


def test_an_answer_that_alone_is_too_long_is_refused(prompts):
    width = len(prompts.after(""))

    with pytest.raises(
        ModelError,
        match=rf"an answer of \d+ tokens leaves no room .* max_text_tokens={width}: 'a dog'; raise",
    ):
        prompts.sample("What is it?", "a dog", max_text_tokens=width)
