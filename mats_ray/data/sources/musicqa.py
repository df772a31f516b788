"""MusicQA (MU-LLaMA): one question and answer per row, nine rows per clip, a clip's rows together.

Two of the nine ask for a description of the clip. Its answer stands in for the audio in all nine, unless a
file of captions is given beside; taken for themselves, these descriptions are MagnaTagATune's captions.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from mats_ray.data.sources.jsonlist import json_items, json_lines
from mats_ray.data.sources.lookup import TextLookup
from mats_ray.data.sources.rows import AnnotationFile, Dropped, Entry, Rejected, Row

DESCRIBE = ("describe the audio in detail", "describe the audio")
"""Questions, the better description first."""
NO_TEXT = "no description of its clip"


class _Pair(NamedTuple):
    number: int
    clip: str
    question: str
    answer: str


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``{Pretrain,Finetune,Eval}MusicQA.json`` as questions.

    The companions ``captions`` are JSON Lines of ``audio_name``, ``caption``, several per clip if there are.
    """
    with TextLookup() as captions:
        given = _fill(file, captions)
        for entry in _clips(file):
            if isinstance(entry, Rejected):
                yield entry
                continue
            texts = captions.get(entry[0].clip) if given else []
            yield from _questions(entry, texts or _descriptions(entry)[:1])


def read_captions(file: AnnotationFile) -> Iterator[Entry]:
    """Read the descriptions in the same files as captions of music."""
    for entry in _clips(file):
        if isinstance(entry, Rejected):
            yield entry
            continue
        for pair in entry:
            if pair.question.lower() in DESCRIBE:
                yield Row(pair.number, f"{pair.clip}/{pair.number}", text=pair.answer)
            else:
                yield Dropped(pair.number, "not a description")


def _questions(pairs: list[_Pair], texts: list[str]) -> Iterator[Entry]:
    for pair in pairs:
        if not texts:
            yield Dropped(pair.number, NO_TEXT)
        for place, text in enumerate(texts, start=1):
            key = f"{pair.clip}/{pair.number}/{place}"
            yield Row(pair.number, key, text=text, question=pair.question, answer=pair.answer)


def _descriptions(pairs: list[_Pair]) -> list[str]:
    return [pair.answer for wanted in DESCRIBE for pair in pairs if pair.question.lower() == wanted]


def _clips(file: AnnotationFile) -> Iterator[list[_Pair] | Rejected]:
    """Yield the pairs of each clip."""
    group: list[_Pair] = []
    for found in json_items(file):
        if isinstance(found, Rejected):
            yield found
            continue
        pair = _pair(*found)
        if isinstance(pair, Rejected):
            yield pair
            continue
        if group and pair.clip != group[0].clip:
            yield group
            group = []
        group.append(pair)
    if group:
        yield group


def _pair(number: int, item: Any) -> _Pair | Rejected:
    try:
        human, machine = item["conversation"]
        pair = _Pair(number, item["audio_name"], human["value"].strip(), machine["value"].strip())
    except (KeyError, TypeError, ValueError, AttributeError):
        return Rejected(number, "no audio_name, or no conversation of one question and answer")
    return pair if all(pair[1:]) else Rejected(number, "empty audio_name, question or answer")


def _fill(file: AnnotationFile, captions: TextLookup) -> bool:
    paths = file.companions.get("captions", ())
    for path in paths:
        for found in json_lines(file.beside(path)):
            if not isinstance(found, Rejected) and isinstance(found[1], dict):
                captions.add(str(found[1].get("audio_name")), str(found[1].get("caption")))
    return bool(paths)
