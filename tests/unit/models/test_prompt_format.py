"""Prompt formats as data: Vicuna's is upstream's, others are read strictly, and each has its own name."""

import json

import pytest
from pydantic import ValidationError

from mats_ray.errors import ModelError
from mats_ray.models.prompt_format import VICUNA, PromptFormat, read_prompt_format
from mats_ray.tasks import prompt_halves

CHAT = PromptFormat(
    name="chat", before="<|user|><Speech>", opening="</Speech> ", closing="", turn="<|end|>\n", end="<|end|>"
)


def test_vicunas_is_the_prompt_that_upstream_was_trained_with():
    assert (VICUNA.before, VICUNA.opening + "Is {it} a dog?" + VICUNA.closing) == prompt_halves(
        "Is {it} a dog?"
    )
    assert VICUNA.end is None


def test_a_format_comes_back_from_json():
    assert read_prompt_format(json.loads(CHAT.model_dump_json()), source="x") == CHAT
    assert read_prompt_format(json.loads(VICUNA.model_dump_json()), source="x") == VICUNA


def test_a_directory_that_names_no_format_was_trained_with_vicunas():
    assert read_prompt_format(None, source="x") == VICUNA


@pytest.mark.parametrize(
    ("tree", "complaint"),
    [
        ({}, "name is missing"),
        ("chat", "input should be"),
        (CHAT.model_dump() | {"before": 3}, "before = 3 is not allowed"),
        (CHAT.model_dump() | {"name": "alpaca"}, "name = 'alpaca' is not allowed"),
        (CHAT.model_dump() | {"suffix": "x"}, "unknown key suffix = 'x'; allowed here: answer_end, "),
        (CHAT.model_dump() | {"end": None}, "a prompt of the kind 'chat' needs end, the token that ends"),
        (CHAT.model_dump() | {"turn": "x" * 20_001}, "turn = 'xxx"),
    ],
    ids=range(7),
)
def test_what_is_no_format_is_one_line(tree, complaint):
    with pytest.raises(ModelError, match=r"^model/config\.json: prompt: ") as caught:
        read_prompt_format(tree, source="model/config.json")

    assert complaint in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_formats_of_one_name_and_other_texts_have_other_names_in_errors():
    other = CHAT.model_copy(update={"before": "<|user|>\n<Speech>"})

    assert str(VICUNA) == "vicuna"
    assert str(CHAT) == str(CHAT.model_copy())
    assert len({str(CHAT), str(other), str(VICUNA.model_copy(update={"before": "HUMAN: <Speech>"}))}) == 3


def test_a_chat_without_an_end_cannot_be_made():
    with pytest.raises(ValidationError, match="needs end"):
        PromptFormat(name="chat", before="", opening="", closing="")
