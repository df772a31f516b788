"""Questions with one published answer: ClothoAQA as cleaned by MWAFM, and MusicQA."""

from collections import Counter
from collections.abc import Iterator

from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.reader import AnnotationFile, Rejected
from mats_ray.data.sources import musicqa
from mats_ray.errors import DataError
from mats_ray.evaluate.benchmark import Entry, Sample

_COLUMNS = ("file_name", "QuestionText", "answer")
_OF_ANNOTATORS = "confidence"
"""A column that only the raw file has."""
_YES_NO = frozenset({"yes", "no"})


def read_clotho_aqa(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``clotho_aqa_test_clean.csv``, with a header or without: a row per question.

    Raises:
        DataError: It is the raw file, which has a row per annotator.
    """
    first = next(file.lines(), "")
    if _OF_ANNOTATORS in first:
        raise DataError(f"{file.path} has a row per annotator; what is read is {file.split}")
    ids = _Ids()
    names = () if "QuestionText" in first else _COLUMNS
    for record in table_records(file, needed=_COLUMNS, names=names, encoding="latin-1"):
        if isinstance(record, Rejected):
            yield record
            continue
        name, question, answer = (record[1][column] for column in _COLUMNS)
        if not (name and question and answer):
            yield Rejected(record[0], "empty file_name, question or answer")
            continue
        answer = answer.lower()
        kind = "yes or no" if answer in _YES_NO else "single word"
        yield Sample(
            id=ids.of(name, question),
            audio=(name,),
            references=(answer,),
            question=question,
            categories={"kind": kind},
        )


def read_musicqa(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``EvalMusicQA.json``: a question and its answer in an item, nine items per clip."""
    ids = _Ids()
    for pair in musicqa.pairs(file):
        if isinstance(pair, Rejected):
            yield pair
        else:
            yield Sample(
                id=ids.of(pair.clip, pair.question),
                audio=(pair.clip,),
                references=(pair.answer,),
                question=pair.question,
            )


class _Ids:
    """Ids of clip and question, which do not depend on lines; repeated questions are numbered."""

    def __init__(self) -> None:
        self._counts = Counter[str]()

    def of(self, clip: str, question: str) -> str:
        name = f"{clip}/{question}"
        self._counts[name] += 1
        return name if self._counts[name] == 1 else f"{name}/{self._counts[name]}"
