import pytest
from pydantic import ValidationError

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.generation import GenerationConfig

OWN = GenerationConfig(profile="paper", max_new_tokens=60)


def test_what_is_not_chosen_is_the_models():
    assert AnswerOptions().over(OWN) == OWN
    assert AnswerOptions(profile="fast").over(OWN) == GenerationConfig(profile="fast", max_new_tokens=60)
    assert AnswerOptions(max_new_tokens=3).over(OWN).max_new_tokens == 3


def test_drawing_is_never_a_beam_search():
    assert AnswerOptions(temperature=0.5).over(OWN).profile == "fast"
    with pytest.raises(ValidationError, match="beam search"):
        AnswerOptions(temperature=0.5, profile="paper")


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": 2.5},
        {"temperature": 1e-320},
        {"temperature": float("nan")},
        {"temperature": True},
        {"top_p": 0},
        {"top_p": 1e-320},
        {"seed": 2**63},
        {"seed": -(2**63) - 1},
        {"max_new_tokens": 0},
        {"max_new_tokens": 2**31},
        {"stop": ("",)},
        {"stop": ("a" * 101,)},
        {"stop": ("a",) * 5},
        {"santa": {"mix": 2}},
        {"santa": {"num_neighbours": 25_000_000}},
        {"santa": {"num_neighbours": 0}},
        {"santa": {"num_neighbours": True}},
        {"santa": {"temperature": 1e-40}},
        {"santa": {"temperature": float("inf")}},
        {"santa": 1},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(bad):
    with pytest.raises(ValidationError):
        AnswerOptions(**bad)
