"""Questions with choices: MMAU and MMAR, in JSON and in JSON Lines."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from mats_ray.data.annotations.json_records import json_list_or_lines
from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Rejected
from mats_ray.errors import DataError
from mats_ray.evaluate.benchmark import Entry, Sample, SampleReader
from mats_ray.evaluate.samples import OTHER_SPLIT

MMAU_COLUMNS = ("task", "difficulty", "category", "sub-category")
SELECT = "Select one option:"
ANSWER = "Answer with exactly one of these options, word for word, and nothing else."
"""The official matchers know the text of a choice only: a letter scores zero, a sentence around it may."""


def question_text(question: str, choices: Sequence[str]) -> str:
    """Write a question with its choices as MATS puts it: quoted, with commas, on a line of their own."""
    quoted = ", ".join(f'"{choice}"' for choice in choices)
    return f"{question}\n{SELECT}\n{quoted}\n{ANSWER}"


def reader(
    *,
    audio: str,
    columns: Sequence[str],
    split: str = "",
    answered: bool = True,
    known: tuple[str, str] | None = None,
) -> SampleReader:
    """Make a reader of a list, or lines, of items with ``question``, ``choices`` and ``answer``.

    Args:
        audio: Key of the path of the audio.
        columns: Keys of the categories.
        split: Items that name another split are left out; empty: all are samples.
        answered: Whether answers are published; an item without one is rejected then.
        known: Id and answer of an item that differs between the revisions of a file.
    """

    def read(file: AnnotationFile) -> Iterator[Entry]:
        for found in json_list_or_lines(file):
            if isinstance(found, Rejected):
                yield found
                continue
            number, item = found
            if not isinstance(item, dict):
                yield Rejected(number, "no JSON object")
            elif split and item.get("split", split) != split:
                yield Dropped(number, OTHER_SPLIT)
            else:
                entry = _sample(number, item, audio, columns)
                if isinstance(entry, Sample):
                    _check_revision(entry, known, file)
                    if answered and not entry.references:
                        entry = Rejected(number, "no answer")
                yield entry

    return read


def _sample(number: int, item: dict[str, Any], audio: str, columns: Sequence[str]) -> Entry:
    path, question, answer = (_text(item.get(key)) for key in (audio, "question", "answer"))
    listed = item.get("choices")
    choices = tuple(map(_text, listed)) if isinstance(listed, list) else ()
    if not (path and question) or len(choices) < 2 or not all(choices):
        return Rejected(number, f"no {audio}, no question, or not two choices at least")
    name = PurePosixPath(path).name
    return Sample(
        id=_text(item.get("id")) or name.rpartition(".")[0] or name,
        audio=(name,),
        references=(answer,) if answer else (),
        question=question_text(question, choices),
        choices=choices,
        categories={column: value for column in columns if (value := _text(item.get(column)))},
    )


def _text(value: Any) -> str:
    """Write a value as text; some items have a list of one in place of a text, or a number."""
    if isinstance(value, list):
        return ", ".join(filter(None, map(_text, value)))
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _check_revision(sample: Sample, known: tuple[str, str] | None, file: AnnotationFile) -> None:
    name, answer = known or ("", "")
    if sample.id == name and sample.references and sample.references[0] != answer:
        raise DataError(
            f"{file.path} is another revision than {file.split}: the answer of {sample.id} is "
            f"{sample.references[0]!r}, not {answer!r}"
        )
