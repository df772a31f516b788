"""Rows to a micro-batch: inputs, labels, and cut instructions."""

import logging

import numpy as np
import pytest
import torch

from mats_ray.data.collate import Collator
from mats_ray.errors import ModelError
from mats_ray.models.chat_template import choose_format
from mats_ray.models.llm import load_tokenizer
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.models.splice import IGNORED
from tests.unit.models.chat_tokenizers import llama3
from tests.world import tiny_llm

INSTRUCTIONS = ["Is there a dog?", "Describe the following audio in a caption."]
ANSWERS = ["yes", "rain falls on the roof while a siren wails"]
CLAP = np.eye(2, 6)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    return PromptTokenizer(load_tokenizer(str(tiny_llm(tmp_path_factory.mktemp("llm")))))


@pytest.fixture
def batch(prompts):
    return Collator(prompts, 150)(CLAP, INSTRUCTIONS, ANSWERS)


def test_labels_cover_exactly_the_answer_and_its_end(prompts, batch):
    for row, answer in enumerate(ANSWERS):
        labels = batch.labels_BT[row]
        learnt = labels[labels != IGNORED].tolist()

        assert learnt[-1] == prompts.eos_id
        assert prompts.decode(learnt[:-1]) == answer
        assert batch.after_BT[row][labels != IGNORED].tolist() == learnt
    assert batch.num_answer_tokens == int((batch.labels_BT != IGNORED).sum())


def test_a_row_is_prompt_then_answer_then_padding(prompts, batch):
    for row, (instruction, answer) in enumerate(zip(INSTRUCTIONS, ANSWERS, strict=True)):
        length = int(batch.mask_BT[row].sum())
        ids = batch.after_BT[row, :length].tolist()
        expected = prompts.sample(instruction, answer, max_text_tokens=150)

        assert ids == expected.prompt + expected.answer
        assert batch.mask_BT[row].tolist() == [1] * length + [0] * (batch.mask_BT.shape[1] - length)
        assert (batch.labels_BT[row, length:] == IGNORED).all()
        assert (batch.labels_BT[row, : len(expected.prompt)] == IGNORED).all()
    assert batch.num_text_tokens == int(batch.mask_BT.sum())


def test_embeddings_are_float32_whatever_they_were(prompts):
    half = Collator(prompts, 150)(CLAP.astype(np.float16)[:, ::-1], INSTRUCTIONS, ANSWERS)

    assert half.clap_BC.dtype == torch.float32
    assert half.clap_BC.tolist() == CLAP[:, ::-1].tolist()


def test_a_row_is_the_same_whatever_stands_beside_it(prompts, batch):
    alone = Collator(prompts, 150)(CLAP[:1], INSTRUCTIONS[:1], ANSWERS[:1])
    width = alone.after_BT.shape[1]

    assert batch.after_BT[0, :width].tolist() == alone.after_BT[0].tolist()
    assert batch.labels_BT[0, :width].tolist() == alone.labels_BT[0].tolist()


def test_a_long_row_loses_the_end_of_its_instruction_and_nothing_of_its_answer(prompts):
    whole = Collator(prompts, 150)(CLAP[:1], INSTRUCTIONS[1:], ANSWERS[1:])
    collate = Collator(prompts, whole.num_text_tokens - 3)

    batch = collate(CLAP[:1], INSTRUCTIONS[1:], ANSWERS[1:])

    assert batch.num_text_tokens <= whole.num_text_tokens - 3
    assert batch.labels_BT[batch.labels_BT >= 0].tolist() == whole.labels_BT[whole.labels_BT >= 0].tolist()
    assert collate.num_cut == 1


def test_cut_instructions_are_counted_in_the_log_but_not_one_by_one(prompts, caplog):
    room = Collator(prompts, 150)(CLAP[:1], INSTRUCTIONS[1:], ANSWERS[1:]).num_text_tokens - 3
    collate = Collator(prompts, room)

    with caplog.at_level(logging.WARNING):
        for _ in range(9):
            collate(CLAP, INSTRUCTIONS, ANSWERS)

    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"{count} instructions cut to max_text_tokens={room}" for count in (1, 2, 4, 8)]


def test_an_answer_that_does_not_fit_is_refused(prompts):
    with pytest.raises(ModelError, match=r"leaves no room for any instruction within max_text_tokens=5"):
        Collator(prompts, 5)(CLAP, INSTRUCTIONS, ANSWERS)


def test_a_pair_of_texts_is_tokenised_once(prompts, monkeypatch):
    collate = Collator(prompts, 150)
    first = collate(CLAP, INSTRUCTIONS, ANSWERS)
    monkeypatch.setattr(PromptTokenizer, "sample", lambda *_, **__: pytest.fail("again"))

    again = collate(CLAP, INSTRUCTIONS, ANSWERS, ["a", "b"])

    assert again.after_BT.equal(first.after_BT)
    assert (first.ids, again.ids) == ((), ("a", "b"))


def test_rows_of_unequal_number_are_our_own_mistake(prompts):
    with pytest.raises(ValueError, match="shorter"):
        Collator(prompts, 150)(CLAP, INSTRUCTIONS, ANSWERS[:1])


def test_in_a_chat_an_answer_ends_as_a_turn_does():
    tokenizer = llama3()
    prompts = PromptTokenizer(tokenizer, choose_format(tokenizer, "chat"))

    batch = Collator(prompts, 150)(CLAP, INSTRUCTIONS, ANSWERS)

    end = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    for labels, ids, instruction, answer in zip(
        batch.labels_BT, batch.after_BT, INSTRUCTIONS, ANSWERS, strict=True
    ):
        learnt = labels[labels != IGNORED].tolist()
        assert learnt[-1] == end != tokenizer.eos_token_id
        assert prompts.decode(learnt) == answer
        assert ids.tolist()[: len(prompts.after(instruction))] == prompts.after(instruction)
