"""Captions, questions and answers for the scenes of the toy world, and the rules by which answers are judged.

Captions (what CLAP reads) are varied: many templates times several phrases per sound. Answers (what the
language model learns to generate) are few and canonical, so that they can be judged by rule.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mats_ray.tasks import INSTRUCTIONS, Task
from mats_ray.toy.scenes import Scene, SceneKind
from mats_ray.toy.sounds import SOUNDS
from mats_ray.toy.vocabulary import VOCABULARY
from mats_ray.types import Triplet

QuestionKind = Literal["presence", "identify", "count", "relation", "order"]

AT_THE_SAME_TIME = "at the same time"
ONE_AFTER_THE_OTHER = "one after the other"

CAPTION_TEMPLATES: dict[SceneKind, tuple[str, ...]] = {
    "alone": (
        "{c1}",
        "{n1}",
        "{n1} can be heard",
        "the sound of {n1}",
        "{c1} the whole time",
        "only {n1} can be heard",
    ),
    "then": (
        "{c1}, then {c2}",
        "{c1} and then {c2}",
        "{n1} followed by {n2}",
        "first {c1}, then {c2}",
        "{c1} before {c2}",
        "{n1}, and later {n2}",
    ),
    "together": (
        "{c1} while {c2}",
        "{c1} and {c2} at the same time",
        "{n1} together with {n2}",
        "{c1} with {n2} in the background",
        "{c1} as {c2}",
        "both {n1} and {n2} can be heard at once",
    ),
}
"""``{c1}`` is a clause about the first sound ("a dog barks"), ``{n1}`` a noun phrase ("a dog barking")."""

QUESTIONS: dict[QuestionKind, tuple[str, ...]] = {
    "presence": (
        "Is there {noun}?",
        "Is there {noun} in the audio?",
        "Can {noun} be heard?",
        "Can you hear {noun}?",
        "Do you hear {noun}?",
        "Do you notice {noun} in the audio?",
        "Does the clip contain the sound of {noun}?",
        "Is there any sound of {noun}?",
        "Do you hear {noun} in this recording?",
    ),
    "identify": (
        "Which sounds can be heard?",
        "What can be heard?",
        "What can be heard in the audio?",
        "What do you hear?",
        "What sounds are there?",
        "What makes the sound in this clip?",
        "Name everything you hear.",
        "Which sound sources are in the recording?",
    ),
    "count": (
        "How many sounds are there?",
        "How many sounds can be heard?",
        "How many different sounds do you hear?",
    ),
    "relation": (
        "Do the sounds happen at the same time or one after the other?",
        "Are the sounds heard one after the other or at the same time?",
        "How do the two sounds relate in time?",
        "Is it a sequence of sounds or a mixture?",
    ),
    "order": (
        "Which sound comes first?",
        "What do you hear first?",
        "Which sound is at the beginning?",
        "What does the clip start with?",
    ),
}

_CANONICAL_CAPTIONS: dict[SceneKind, str] = {
    "alone": "{c1}",
    "then": "{c1}, then {c2}",
    "together": "{c1} while {c2}",
}
_NUMBERS = ("one", "two")
_RELATION_WORDS = {
    AT_THE_SAME_TIME: re.compile(r"\b(same time|simultaneous\w*|at once|together|mixture)\b"),
    ONE_AFTER_THE_OTHER: re.compile(
        r"\b(one after|after (the other|another|each other)|sequence|sequential\w*)\b"
    ),
}


@dataclass(frozen=True)
class QA:
    """A question about a scene with its canonical answer: short, lower case, without a full stop."""

    question: str
    answer: str
    kind: QuestionKind


def captions(scene: Scene, rng: np.random.Generator, count: int) -> list[str]:
    """Write varied captions as sentences; no template comes twice before each has come once."""
    templates = CAPTION_TEMPLATES[scene.kind]
    order = np.concatenate(
        [rng.permutation(len(templates)) for _ in range(-(-count // len(templates)))] or [[]]
    )
    return [_caption(templates[int(index)], scene, rng) for index in order[:count]]


def canonical_caption(scene: Scene) -> str:
    """Describe a scene in its one fixed form, as captions are answered: "a dog barks, then rain falls"."""
    clauses = [VOCABULARY[name].clauses[0] for name in scene.sounds]
    return _CANONICAL_CAPTIONS[scene.kind].format(c1=clauses[0], c2=clauses[-1])


def question_answers(scene: Scene, rng: np.random.Generator, *, num_presence: int = 2) -> list[QA]:
    """Write every question that makes sense for a scene, each in one of its phrasings.

    Which sounds there are, whether some are there, and how many; for pairs how they relate in time; for one
    after the other which is first.

    Args:
        scene: Sounds and their order.
        rng: Draws the phrasings and the sounds in the questions.
        num_presence: Number of questions for a single sound; half of these sounds are there, an odd one by
            chance, or fewer where the scene has fewer.
    """
    sounds = [str(name) for name in rng.permutation(scene.sounds)]
    absent = [str(name) for name in rng.permutation([name for name in SOUNDS if name not in sounds])]
    present = sounds[: (num_presence + int(rng.integers(2))) // 2]
    pairs: list[tuple[QuestionKind, str, str]] = [
        *(("presence", name, "yes") for name in present),
        *(("presence", name, "no") for name in absent[: num_presence - len(present)]),
        ("identify", "", _list_sounds(scene)),
        ("count", "", _NUMBERS[len(scene.sounds) - 1]),
    ]
    if scene.kind != "alone":
        pairs.append(("relation", "", AT_THE_SAME_TIME if scene.kind == "together" else ONE_AFTER_THE_OTHER))
    if scene.kind == "then":
        pairs.append(("order", "", VOCABULARY[scene.sounds[0]].noun))
    return [QA(_question(kind, about, rng), answer, kind) for kind, about, answer in pairs]


def triplets(
    scene: Scene,
    text: str,
    rng: np.random.Generator,
    id_prefix: str,
    split: str,
    *,
    num_presence: int = 2,
) -> list[Triplet]:
    """Make the training samples of one caption ``text``: the caption task and several questions."""
    samples = [("caption", Task.CAPTION, INSTRUCTIONS[Task.CAPTION], canonical_caption(scene))]
    samples += [
        (f"{qa.kind}-{index}", Task.QA, qa.question, qa.answer)
        for index, qa in enumerate(question_answers(scene, rng, num_presence=num_presence))
    ]
    return [
        Triplet(
            id=f"{id_prefix}/{name}",
            text=text,
            instruction=instruction,
            answer=answer,
            task=task,
            source="toy",
            split=split,
            license="Apache-2.0",
        )
        for name, task, instruction, answer in samples
    ]


def kind_of(row_id: str) -> str:
    """Return the kind of a sample of ``triplets``: "caption", or the kind of its question."""
    return row_id.rsplit("/", 1)[1].split("-")[0]


def sounds_named(text: str) -> set[str]:
    """Find the sounds a free text names; where known words overlap the longest one counts."""
    return {_SOUND_OF_WORD[match[1]] for match in _ANY_WORD.finditer(text.lower())}


def caption_is_right(predicted: str, scene: Scene) -> bool:
    """Return whether a caption names all sounds of a scene and no other."""
    return sounds_named(predicted) == set(scene.sounds)


def answer_is_right(kind: QuestionKind, predicted: str, expected: str) -> bool:
    """Judge a predicted answer against the canonical one, whatever its case, punctuation and extra words."""
    words = re.findall(r"[a-z]+", predicted.lower())
    if kind in ("presence", "count"):
        return words[:1] == [expected]
    if kind == "relation":
        plain = " ".join(words)
        return [relation for relation, known in _RELATION_WORDS.items() if known.search(plain)] == [expected]
    return sounds_named(predicted) == sounds_named(expected)


def _caption(template: str, scene: Scene, rng: np.random.Generator) -> str:
    """Fill in a template; sounds at the same time are named in alphabetical order, as in answers."""
    fields = {
        f"{letter}{place}": _pick(phrases, rng)
        for place, name in enumerate(scene.sounds, start=1)
        for letter, phrases in (("c", VOCABULARY[name].clauses), ("n", VOCABULARY[name].nominals))
    }
    text = template.format(**fields)
    return f"{text[0].upper()}{text[1:]}."


def _question(kind: QuestionKind, about: str, rng: np.random.Generator) -> str:
    return _pick(QUESTIONS[kind], rng).format(noun=VOCABULARY[about].noun if about else "")


def _list_sounds(scene: Scene) -> str:
    return " and ".join(VOCABULARY[name].noun for name in scene.sounds)


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


_SOUND_OF_WORD = {word: name for name, words in VOCABULARY.items() for word in words.known_words}
_ANY_WORD = re.compile(
    r"\b({})(?:e|y|s|es|ed|ing|[a-z]ing|[a-z]ed)?\b".format(
        "|".join(re.escape(word) for word in sorted(_SOUND_OF_WORD, key=len, reverse=True))
    )
)
"""A known word or stem in any of its forms: bark, barks, barking, barked; drip, dripping."""
