"""MusicQA (MU-LLaMA): one question and answer per row, nine rows per clip.

Two of the nine ask for a description of the clip. Its answer is used in place of the audio in all nine,
unless a file of captions is given beside; these descriptions alone are MagnaTagATune's captions.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from mats_ray.data.annotations.cell_values import text_or_missing
from mats_ray.data.annotations.json_records import json_items, json_lines
from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Entry, Rejected, Row
from mats_ray.data.annotations.text_lookup import TextLookup, add_caption

DESCRIBE = ("describe the audio in detail", "describe the audio")
"""Questions, the better description first."""
NO_TEXT = "no description of its clip"


class Pair(NamedTuple):
    """A question and its answer."""

    number: int
    clip: str
    question: str
    answer: str


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``{Pretrain,Finetune,Eval}MusicQA.json`` as questions.

    The companions ``captions`` are JSON Lines of ``audio_name``, ``caption``, several per clip if there are.
    """
    with TextLookup() as captions, TextLookup() as better, TextLookup() as other:
        _fill(file, captions, dict(zip(DESCRIBE, (better, other), strict=True)))
        previous, texts = "", list[str]()
        for pair in pairs(file):
            if isinstance(pair, Rejected):
                yield pair
                continue
            if pair.clip != previous:
                previous = pair.clip
                texts = captions.get(pair.clip) or (better.get(pair.clip) or other.get(pair.clip))[:1]
            if not texts:
                yield Dropped(pair.number, NO_TEXT)
            for place, text in enumerate(texts, start=1):
                key = f"{pair.clip}/{pair.number}/{place}"
                yield Row(pair.number, key, text=text, question=pair.question, answer=pair.answer)


def read_captions(file: AnnotationFile) -> Iterator[Entry]:
    """Read the descriptions in the same files as captions of music."""
    for pair in pairs(file):
        if isinstance(pair, Rejected):
            yield pair
        elif pair.question.lower() in DESCRIBE:
            yield Row(pair.number, f"{pair.clip}/{pair.number}", text=pair.answer)
        else:
            yield Dropped(pair.number, "not a description")


def _fill(file: AnnotationFile, captions: TextLookup, descriptions: dict[str, TextLookup]) -> None:
    """Look up captions given beside, and the file's own descriptions: a clip's rows may stand apart."""
    for path in file.companions.get("captions", ()):
        for found in json_lines(file.companion(path)):
            add_caption(captions, found, clip="audio_name")
    for pair in pairs(file):
        if not isinstance(pair, Rejected) and pair.question.lower() in descriptions:
            descriptions[pair.question.lower()].add(pair.clip, pair.answer)


def pairs(file: AnnotationFile) -> Iterator[Pair | Rejected]:
    """Read questions and answers, in the order of the file."""
    for found in json_items(file):
        yield found if isinstance(found, Rejected) else _pair(*found)


def _pair(number: int, item: Any) -> Pair | Rejected:
    try:
        human, machine = item["conversation"]
        texts = (item["audio_name"], human["value"], machine["value"])
    except (KeyError, TypeError, ValueError):
        return Rejected(number, "no audio_name, or no conversation of one question and answer")
    pair = Pair(number, *map(text_or_missing, texts))
    return pair if all(pair[1:]) else Rejected(number, "empty audio_name, question or answer")
