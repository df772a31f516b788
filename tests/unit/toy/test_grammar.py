"""The grammar: captions name what is there, answers are judged by rule, every scene has questions."""

import re

import numpy as np
import pytest

from mats_ray.tasks import INSTRUCTIONS, Task
from mats_ray.toy.grammar import (
    CAPTION_TEMPLATES,
    QUESTIONS,
    answer_is_right,
    canonical_caption,
    caption_is_right,
    captions,
    question_answers,
    sounds_named,
    triplets,
)
from mats_ray.toy.scenes import Scene, all_scenes
from mats_ray.toy.vocabulary import VOCABULARY
from tests.architecture.source import ROOT

DOG_THEN_RAIN = Scene("then", ("dog", "rain"))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_every_kind_of_scene_has_half_a_dozen_templates():
    assert all(len(set(templates)) >= 6 for templates in CAPTION_TEMPLATES.values())


@pytest.mark.parametrize("kind", CAPTION_TEMPLATES)
def test_every_caption_names_exactly_the_sounds_of_its_scene(kind, rng):
    count = len(CAPTION_TEMPLATES[kind])
    for scene in (scene for scene in all_scenes() if scene.kind == kind):
        texts = captions(scene, rng, count)

        assert len(texts) == count
        assert [text for text in texts if not caption_is_right(text, scene)] == []


def test_captions_are_varied_and_repeatable():
    def write(seed):
        return captions(DOG_THEN_RAIN, np.random.default_rng(seed), 40)

    assert write(1) == write(1)
    assert write(1) != write(2)
    assert len(set(write(1))) >= 25
    assert captions(DOG_THEN_RAIN, np.random.default_rng(1), 0) == []


def test_captions_are_sentences(rng):
    for text in captions(DOG_THEN_RAIN, rng, 15):
        assert text[0].isupper()
        assert text.endswith(".")
        assert "{" not in text


@pytest.mark.parametrize(
    ("scene", "caption"),
    [
        (Scene("alone", ("bell",)), "a bell rings"),
        (DOG_THEN_RAIN, "a dog barks, then rain falls"),
        (Scene("then", ("rain", "dog")), "rain falls, then a dog barks"),
        (Scene("together", ("rain", "dog")), "a dog barks while rain falls"),
    ],
    ids=["alone", "then", "then reversed", "together"],
)
def test_the_canonical_caption_has_one_form(scene, caption):
    assert canonical_caption(scene) == caption


def test_canonical_captions_of_all_scenes_differ():
    scenes = all_scenes()

    assert len({canonical_caption(scene) for scene in scenes}) == len(scenes)
    assert all(caption_is_right(canonical_caption(scene), scene) for scene in scenes)


@pytest.mark.parametrize(
    ("text", "sounds"),
    [
        ("Two DOGS barked; water was dripping!", {"dog", "water drops"}),
        ("It is raining, the winds howl and waves crash", {"rain", "wind", "waves"}),
        ("babies cry as somebody whistled", {"baby", "whistle"}),
        ("raindrops and drops of water", {"rain", "water drops"}),
        ("an alarm clock", {"alarm"}),
        ("a car horn, not a car engine", {"car horn", "engine"}),
        ("catastrophe in the window of a train with a unicorn", set()),
        ("", set()),
    ],
)
def test_sounds_are_found_in_free_text(text, sounds):
    assert sounds_named(text) == sounds


@pytest.mark.parametrize(
    "predicted", ["a dog barks", "a dog barks, then rain falls and a bell rings", "music", ""]
)
def test_a_caption_lacking_a_sound_or_naming_another_is_wrong(predicted):
    assert not caption_is_right(predicted, DOG_THEN_RAIN)


def test_every_answer_is_judged_right_and_its_opposite_wrong(rng):
    for scene in all_scenes():
        for qa in question_answers(scene, rng):
            wrong = {
                "yes": "no",
                "no": "yes",
                "one": "two",
                "two": "one",
                "at the same time": "one after the other",
                "one after the other": "at the same time",
            }.get(qa.answer, "a dog" if qa.answer != "a dog" else "rain")

            assert answer_is_right(qa.kind, qa.answer, qa.answer)
            assert answer_is_right(qa.kind, f" {qa.answer.capitalize()}.", qa.answer)
            assert not answer_is_right(qa.kind, wrong, qa.answer)
            assert not answer_is_right(qa.kind, "", qa.answer)


@pytest.mark.parametrize(
    ("kind", "predicted", "expected", "right"),
    [
        ("presence", "Yes, a dog barks.", "yes", True),
        ("presence", "I think yes", "yes", False),
        ("presence", "yesterday", "yes", False),
        ("count", "Two sounds.", "two", True),
        ("count", "two", "one", False),
        ("identify", "Rain and a dog!", "a dog and rain", True),
        ("identify", "a dog", "a dog and rain", False),
        ("identify", "a dog and rain and a cat", "a dog and rain", False),
        ("relation", "Simultaneously.", "at the same time", True),
        ("relation", "They come one after another", "one after the other", True),
        ("relation", "one after the other or at the same time", "one after the other", False),
        ("order", "The dog comes first", "a dog", True),
        ("order", "a dog or rain", "a dog", False),
    ],
)
def test_answers_are_judged_by_their_content(kind, predicted, expected, right):
    assert answer_is_right(kind, predicted, expected) is right


def test_answers_are_short_and_lower_case(rng):
    for scene in all_scenes():
        for qa in question_answers(scene, rng):
            assert qa.answer == qa.answer.lower()
            assert len(qa.answer.split()) <= 7


@pytest.mark.parametrize(
    ("scene", "kinds"),
    [
        (Scene("alone", ("dog",)), ["presence", "presence", "identify", "count"]),
        (Scene("together", ("dog", "rain")), ["presence", "presence", "identify", "count", "relation"]),
        (DOG_THEN_RAIN, ["presence", "presence", "identify", "count", "relation", "order"]),
    ],
    ids=["alone", "together", "then"],
)
def test_a_scene_has_the_questions_that_apply_to_it(scene, kinds, rng):
    assert [qa.kind for qa in question_answers(scene, rng)] == kinds


def test_presence_questions_are_balanced_and_correct(rng):
    for _ in range(50):
        presence = [qa for qa in question_answers(DOG_THEN_RAIN, rng) if qa.kind == "presence"]

        assert [qa.answer for qa in presence] == ["yes", "no"]
        for qa in presence:
            (sound,) = sounds_named(qa.question)
            assert (sound in DOG_THEN_RAIN.sounds) == (qa.answer == "yes")


def test_a_question_names_one_sound_at_most(rng):
    """So no question spells out a combination of sounds, held out or not."""
    for scene in all_scenes():
        for qa in question_answers(scene, rng):
            assert len(sounds_named(qa.question)) == (qa.kind == "presence")


def test_every_phrasing_of_a_question_is_used(rng):
    questions = {qa.question for _ in range(200) for qa in question_answers(DOG_THEN_RAIN, rng)}

    for kind in ("identify", "count", "relation", "order"):
        assert set(QUESTIONS[kind]) <= questions


def test_triplets_carry_the_caption_task_and_the_questions(rng):
    text = captions(DOG_THEN_RAIN, rng, 1)[0]

    samples = triplets(DOG_THEN_RAIN, text, rng, "toy-12", "train")

    assert [sample.task for sample in samples] == [Task.CAPTION] + 6 * [Task.QA]
    assert samples[0].instruction == INSTRUCTIONS[Task.CAPTION]
    assert samples[0].answer == "a dog barks, then rain falls"
    assert len({sample.id for sample in samples}) == len(samples)
    assert {(s.text, s.source, s.split, s.license) for s in samples} == {(text, "toy", "train", "Apache-2.0")}
    assert all(sample.id.startswith("toy-12/") for sample in samples)


def test_triplets_are_repeatable():
    def make():
        return triplets(DOG_THEN_RAIN, "text", np.random.default_rng(3), "a", "val")

    assert make() == make()


def test_the_nouns_are_what_answers_list():
    qa = next(qa for qa in question_answers(DOG_THEN_RAIN, np.random.default_rng(0)) if qa.kind == "identify")

    assert qa.answer == f"{VOCABULARY['dog'].noun} and {VOCABULARY['rain'].noun}"


EXAMPLES_STAND_IN = (
    "README.md",
    "docs/*.md",
    "mats_ray/cli/*.py",
    "mats_ray/infer/*.py",
    "mats_ray/serving/http/**/*.*",
)
KNOWN_QUESTIONS = {
    form.format(noun=words.noun)
    for forms in QUESTIONS.values()
    for form in forms
    for words in VOCABULARY.values()
}


def example_questions():
    """Return the quoted questions of README, docs, help and page, each with its file."""
    files = {path for place in EXAMPLES_STAND_IN for path in ROOT.glob(place)}
    return [
        (path.relative_to(ROOT).as_posix(), question)
        for path in sorted(files)
        if path.suffix in (".md", ".py", ".html", ".js")
        for question in re.findall(r'"([A-Z][a-z]+ [^"\n]+\?)"', path.read_text("utf-8"))
    ]


def test_every_example_question_is_one_that_the_model_is_taught():
    examples = example_questions()

    assert {"README.md", "mats_ray/cli/serve.py", "mats_ray/serving/http/page/index.html"} <= dict(
        examples
    ).keys()
    assert [example for example in examples if example[1] not in KNOWN_QUESTIONS] == []
