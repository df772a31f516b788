"""Sentences for labels, without a chat model, in place of the paper's 50 descriptions per label.

A sentence is an opening, with the labels in it, and an ending; each kind of label has its own openings, and
openings times endings are its frames. Which one a row gets follows from seed and row id.
"""

import re
from itertools import product

from mats_ray.data.prepare.instructions import pick
from mats_ray.data.sources.registry import LabelKind

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SPACES = re.compile(r"\s+")

_OPENINGS: dict[LabelKind, tuple[str, ...]] = {
    LabelKind.SOUND: (
        "The sound of {x}",
        "A recording of {x}",
        "There is {x}",
        "{x} can be made out",
        "{x} fills the clip",
        "{x} stands out",
        "The noise of {x} carries",
        "An audio clip of {x}",
        "This is {x}",
        "It is the sound of {x}",
    ),
    LabelKind.SCENE: (
        "The ambience of {x}",
        "A recording made at a place like {x}",
        "The background noise of {x}",
        "The setting is {x}",
        "The acoustics of {x} surround the listener",
        "Everyday life goes on around {x}",
        "The scene is {x}",
        "The atmosphere of {x} is captured",
        "Sounds that belong to {x}",
        "The place is {x}",
    ),
    LabelKind.VOCAL: (
        "A person makes the sound of {x}",
        "The sound of {x} from one person",
        "Someone's {x}",
        "Human {x}",
        "{x} from a single voice",
        "A short burst of {x}",
        "A recording of a person's {x}",
        "One person, {x}",
        "There is {x} by a person",
        "Clear {x} of a human voice",
    ),
    LabelKind.EMOTION: (
        "A person speaks in a voice that is {x}",
        "A speaker who sounds {x}",
        "The tone of the voice is {x}",
        "Speech with an expression that is {x}",
        "The words are said in a way that is {x}",
        "The speaker seems {x}",
        "A sentence spoken by somebody {x}",
        "The voice of a person who is {x}",
        "An utterance that comes across as {x}",
        "Somebody talks and is audibly {x}",
    ),
    LabelKind.GENRE: (
        "A piece of {x} music",
        "A band plays {x}",
        "The style of the track is {x}",
        "{x} music plays",
        "An excerpt of a {x} song",
        "The groove and sound are those of {x}",
        "Musicians perform {x}",
        "This is a {x} tune",
        "A recording of {x} music",
        "The song belongs to {x}",
    ),
    LabelKind.INSTRUMENT: (
        "The sound of {x}",
        "A musician plays {x}",
        "A note on {x} rings out",
        "{x} is played",
        "A recording of {x}",
        "A stroke on {x}",
        "A phrase played on {x}",
        "The instrument is {x}",
        "The timbre of {x} comes through",
        "Solo {x}",
    ),
    LabelKind.MUSIC: (
        "A piece of music with {x}",
        "Music that can be described as {x}",
        "The track features {x}",
        "A song with {x}",
        "The music has {x}",
        "A recording of music: {x}",
        "An arrangement with {x}",
        "This tune is marked by {x}",
        "The piece combines {x}",
        "Music characterised by {x}",
    ),
}

_SOUND_ENDINGS = (
    "",
    " in the distance",
    " close to the microphone",
    " in a quiet place",
    " over soft background noise",
    " with a faint echo",
    " from beginning to end",
    " for a few seconds",
)
_MUSIC_ENDINGS = (
    "",
    " at a steady pace",
    " in a clean recording",
    " with some reverb",
    " in a live setting",
    " at moderate volume",
    " from beginning to end",
    " in a short excerpt",
)
_SPEECH_ENDINGS = (
    "",
    " in a quiet room",
    " close to the microphone",
    " without background noise",
    " at normal volume",
    " in a short clip",
    " from beginning to end",
    " in a clean recording",
)

_ENDINGS = {
    LabelKind.VOCAL: _SPEECH_ENDINGS,
    LabelKind.EMOTION: _SPEECH_ENDINGS,
    LabelKind.GENRE: _MUSIC_ENDINGS,
    LabelKind.INSTRUMENT: _MUSIC_ENDINGS,
    LabelKind.MUSIC: _MUSIC_ENDINGS,
}
_PLACES_WITHOUT_ARTICLE = frozenset({"home"})


def _frames(kind: LabelKind) -> tuple[str, ...]:
    endings = _ENDINGS.get(kind, _SOUND_ENDINGS)
    return tuple(f"{opening}{ending}." for opening, ending in product(_OPENINGS[kind], endings))


FRAMES = {kind: _frames(kind) for kind in LabelKind}
"""80 sentences per kind; the labels replace ``{x}``."""


def sentence(labels: tuple[str, ...], kind: LabelKind, *, seed: int, row_id: str) -> str:
    """Describe audio of some labels in one sentence that names them all.

    Args:
        labels: As the source spells them.
        kind: Kind of the source's labels.
        seed: Seed of the data set.
        row_id: Id of the triplet.
    """
    named = join_labels(tuple(readable_label(label) for label in labels))
    if kind is LabelKind.SCENE and label_in_sentence(named) not in _PLACES_WITHOUT_ARTICLE:
        named = f"the {named}"
    filled = pick(FRAMES[kind], "frame", seed=seed, row_id=row_id).replace("{x}", named)
    return filled[0].upper() + filled[1:]


def readable_label(label: str) -> str:
    """Normalise a label: ``Bark_and_howl`` -> ``Bark and howl``, ``cafe/bar`` -> ``cafe or bar``."""
    label = _CAMEL.sub(" ", label.replace("_", " ")).replace("/", " or ")
    return _SPACES.sub(" ", label).strip(" '\"")


def label_in_sentence(label: str) -> str:
    """Return a label in the form it has inside a sentence: lower case but for abbreviations and the like."""
    words = label.split(" ")
    return " ".join(word.lower() if word[1:].islower() or len(word) == 1 else word for word in words)


def join_labels(labels: tuple[str, ...]) -> str:
    """Join labels the way a sentence lists things."""
    names = [label_in_sentence(label) for label in labels]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
