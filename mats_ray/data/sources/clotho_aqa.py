"""ClothoAQA, raw (one row per annotator, three per question) and cleaned (MWAFM).

Its splits are not Clotho's: 289 of its training clips are in Clotho's evaluation split. So a question counts
only if its clip has captions in the Clotho files given beside (the development split); each makes one row.
"""

from collections import Counter
from collections.abc import Iterator

from mats_ray.data.annotations.csv_records import Record, table_records
from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Entry, Rejected, Row
from mats_ray.data.sources import clotho

NOT_IN_CLOTHO = "clip not in Clotho's development split"
NO_MAJORITY = "annotators disagree"
_COLUMNS = ("file_name", "QuestionText", "answer")


def read_raw(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``clotho_aqa_{train,val,test}.csv``: the answer that most annotators gave, if two at least did."""
    yield from _questions(file, names=())


def read_clean(file: AnnotationFile) -> Iterator[Entry]:
    """Read MWAFM's ``clotho_aqa_*_clean.csv``: one row per question, the answer in capitals."""
    yield from _questions(file, names=() if _has_header(file) else _COLUMNS)


def _has_header(file: AnnotationFile) -> bool:
    return "QuestionText" in next(file.lines(), "")


def _questions(file: AnnotationFile, *, names: tuple[str, ...]) -> Iterator[Entry]:
    """Put the rows of a question together, wherever they stand: some 12,000 rows, held in memory."""
    captions, groups = _captions(file), dict[tuple[str, str], list[Record]]()
    for record in table_records(file, needed=_COLUMNS, names=names, encoding="latin-1"):
        if isinstance(record, Rejected):
            yield record
        elif not all(record[1][name] for name in _COLUMNS):
            yield Rejected(record[0], "empty question or answer")
        else:
            groups.setdefault(_question(record[1]), []).append(record)
    for group in groups.values():
        yield from _majority(group, captions)


def _question(cells: dict[str, str]) -> tuple[str, str]:
    return cells["file_name"], " ".join(cells["QuestionText"].casefold().split())


def _majority(group: list[Record], captions: dict[str, list[str]]) -> Iterator[Entry]:
    """Give the answer most rows have: two at least where there are several, and more than any other."""
    votes = Counter(cells["answer"].lower() for _, cells in group)
    (best, most), *others = votes.most_common(2)
    number, cells = group[0]
    if len(group) > 1 and (most < 2 or (others and others[0][1] == most)):
        yield Dropped(number, NO_MAJORITY)
    else:
        yield from _rows(number, cells, best, captions)


def _rows(number: int, cells: dict[str, str], answer: str, captions: dict[str, list[str]]) -> Iterator[Entry]:
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
            answer=answer,
        )


def _captions(file: AnnotationFile) -> dict[str, list[str]]:
    """Captions by clip: 3,839 clips, held in memory."""
    captions: dict[str, list[str]] = {}
    for path in file.require("captions", "Clotho's captions of its development split"):
        for row in clotho.read(file.companion(path)):
            if isinstance(row, Row):
                captions.setdefault(row.key.rpartition("/")[0], []).append(row.text)
    return captions
