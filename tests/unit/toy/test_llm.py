"""The toy language model: a small LLaMA in transformers' format that learns to answer what it reads."""

from dataclasses import replace

import pytest
import torch

from mats_ray.config.toy import ToyConfig
from mats_ray.models.llm import load_llm, load_tokenizer
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.tasks import Task
from mats_ray.toy.llm import pretrain_llm, read_row, reading_loss
from mats_ray.toy.tokenizer import train_tokenizer
from mats_ray.types import Triplet

SOUNDS = {
    "A dog barks.": "a dog",
    "Rain falls.": "rain",
    "A siren wails.": "a siren",
    "A bell rings.": "a bell",
}
TRIPLETS = [
    Triplet(
        id=text,
        text=text,
        instruction="Which sound can be heard?",
        answer=answer,
        task=Task.QA,
        source="toy",
        split="train",
        license="",
    )
    for text, answer in SOUNDS.items()
]
WORDS = [words for one in TRIPLETS for words in (one.text, one.instruction, one.answer)]


def pretrained(directory, *, steps, seed=0, dim=96):
    toy = ToyConfig(llm_dim=dim, llm_layers=1, llm_steps=steps, llm_batch_size=8)
    pretrain_llm(directory, [[one] for one in TRIPLETS], train_tokenizer(WORDS), toy, seed=seed)
    return load_llm(str(directory)), PromptTokenizer(load_tokenizer(str(directory)))


def answer(model, prompts, text):
    read = prompts.tokenizer(" " + text, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[*prompts.before(), *read, *prompts.after(TRIPLETS[0].instruction)]])
    generated = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    return prompts.decode(generated[0, ids.shape[1] :])


def test_it_is_a_llama_of_the_configured_size(tmp_path):
    model, prompts = pretrained(tmp_path, steps=0)

    config = model.config
    assert config.model_type == "llama"
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (96, 1, 3)
    assert config.vocab_size == len(prompts.tokenizer)
    assert (config.bos_token_id, config.pad_token_id, config.eos_token_id) == (0, 1, 2)
    assert model.dtype == torch.float32


def test_it_learns_to_answer_about_what_it_reads(tmp_path):
    model, prompts = pretrained(tmp_path, steps=140)

    assert {text: answer(model, prompts, text) for text in SOUNDS} == SOUNDS


@pytest.mark.parametrize(("seeds", "same"), [((0, 0), True), ((0, 1), False)])
def test_the_weights_follow_from_the_seed(tmp_path, seeds, same):
    for place, seed in enumerate(seeds):
        pretrained(tmp_path / str(place), steps=2, seed=seed, dim=32)

    one, two = ((tmp_path / str(place) / "model.safetensors").read_bytes() for place in (0, 1))
    assert (one == two) is same


def test_the_global_generator_stays_as_it_was(tmp_path):
    torch.random.default_generator.manual_seed(5)
    expected = torch.rand(3)
    torch.random.default_generator.manual_seed(5)

    pretrained(tmp_path, steps=1, dim=32)

    assert torch.equal(torch.rand(3), expected)


def test_dialogues_in_one_row_read_like_dialogues_of_their_own(tmp_path):
    model, prompts = pretrained(tmp_path, steps=3)
    questions = [replace(TRIPLETS[0], answer=answer) for answer in ("a dog", "rain", "a dog and rain")]

    together = reading_loss(model, [read_row(questions, prompts)])
    apart = reading_loss(model, [read_row([one], prompts) for one in questions])

    torch.testing.assert_close(together, apart)
