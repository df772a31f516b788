"""ClothoAQA, raw (one row per annotator, three per question) and cleaned (MWAFM).

Its splits are not Clotho's: 289 of its training clips are in Clotho's evaluation split. So a question counts
only if its clip has captions in the Clotho files given beside (the development split); each makes one row.
"""

from collections.abc import Iterator

from mats_ray.data.sources import clotho
from mats_ray.data.sources.rows import AnnotationFile, Dropped, Entry, Rejected, Row
from mats_ray.data.sources.tables import table_records

NOT_IN_CLOTHO = "clip not in Clotho's development split"
NO_MAJORITY = "annotators disagree"


def read_raw(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``clotho_aqa_{train,val,test}.csv``: the answer that most annotators gave, if two at least did."""
    captions, group = _captions(file), list[tuple[int, dict[str, str]]]()
    for record in table_records(file, needed=("file_name", "QuestionText", "answer"), encoding="latin-1"):
        if isinstance(record, Rejected):
            yield record
            continue
        if group and _question(record[1]) != _question(group[0][1]):
            yield from _majority(group, captions)
            group = []
        group.append(record)
    if group:
        yield from _majority(group, captions)


def read_clean(file: AnnotationFile) -> Iterator[Entry]:
    """Read MWAFM's ``clotho_aqa_*_clean.csv``: one row per question, the answer in capitals."""
    captions = _captions(file)
    names = () if _has_header(file) else ("file_name", "QuestionText", "answer")
    needed = ("file_name", "QuestionText", "answer")
    for record in table_records(file, needed=needed, names=names, encoding="latin-1"):
        if isinstance(record, Rejected):
            yield record
        else:
            yield from _rows(*record, record[1]["answer"], captions)


def _has_header(file: AnnotationFile) -> bool:
    return "QuestionText" in next(file.lines(), "")


def _question(cells: dict[str, str]) -> tuple[str, str]:
    return cells["file_name"], cells["QuestionText"]


def _majority(group: list[tuple[int, dict[str, str]]], captions: dict[str, list[str]]) -> Iterator[Entry]:
    answers = [cells["answer"].lower() for _, cells in group]
    best = max(answers, key=answers.count)
    number, cells = group[0]
    if len(answers) > 1 and answers.count(best) < 2:
        yield Dropped(number, NO_MAJORITY)
    else:
        yield from _rows(number, cells, best, captions)


def _rows(number: int, cells: dict[str, str], answer: str, captions: dict[str, list[str]]) -> Iterator[Entry]:
    if not answer or not cells["QuestionText"]:
        yield Rejected(number, "empty question or answer")
        return
    texts = captions.get(cells["file_name"])
    if not texts:
        yield Dropped(number, NOT_IN_CLOTHO)
        return
    for place, text in enumerate(texts, start=1):
        yield Row(
            number,
            f"{cells['file_name']}/{number}/{place}",
            text=text,
            question=cells["QuestionText"],
            answer=answer.lower(),
        )


def _captions(file: AnnotationFile) -> dict[str, list[str]]:
    """Captions by clip: 3,839 clips, held in memory."""
    captions: dict[str, list[str]] = {}
    for path in file.require("captions", "Clotho's captions of its development split"):
        for row in clotho.read(file.beside(path)):
            if isinstance(row, Row):
                captions.setdefault(row.key.rpartition("/")[0], []).append(row.text)
    return captions
