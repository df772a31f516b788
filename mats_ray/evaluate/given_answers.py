"""Answers of another system, from a file with the columns ``id`` and ``answer``: scored like a model's."""

from collections.abc import Mapping, Sequence

from mats_ray.data.row_file import EXTENSIONS, read_rows
from mats_ray.errors import DataError, abbreviated
from mats_ray.text import column_name, is_valid_unicode

ID, ANSWER = "id", "answer"


def read_answers(path: str, ids: Sequence[str]) -> Mapping[str, str]:
    """Read the answers of samples.

    Args:
        path: CSV, JSONL or Parquet.
        ids: Ids of all samples; those without a row in the file have no answer.

    Raises:
        DataError: The file cannot be read, answers a sample twice, or none of these.
    """
    if not path.lower().endswith(EXTENSIONS):
        raise DataError(f"{path}: answers are read from {', '.join(EXTENSIONS)}")
    known, answers, unknown = set(ids), dict[str, str](), list[str]()
    for number, row in enumerate(read_rows(path, what="file of answers", columns=_columns), start=1):
        name, answer = row.get(ID), row.get(ANSWER)
        if not isinstance(name, str) or not (answer is None or isinstance(answer, str)):
            raise DataError(f"{path}: row {number} has no id and answer that are texts: {name!r}, {answer!r}")
        if not is_valid_unicode(answer or ""):
            raise DataError(f"{path}: the answer of row {number} holds half a surrogate pair")
        if name in answers:
            raise DataError(f"{path}: row {number} answers {name!r} again")
        if name in known:
            answers[name] = answer or ""
        else:
            unknown.append(name)
    if not answers or unknown:
        expected = abbreviated(ids, most=2)
        found = f"{len(unknown)} answers of other ids, the first {abbreviated(unknown, most=1)}"
        raise DataError(f"{path} has {found if unknown else 'no answer'}; ids of the samples are {expected}")
    return answers


def _columns(names: Sequence[str], where: str, *, whole: bool) -> list[str]:
    del whole  # a row of JSON Lines needs both, too
    columns = [column_name(name) for name in names]
    for wanted in (ID, ANSWER):
        if columns.count(wanted) != 1:
            raise DataError(
                f"{where} has the column {wanted!r} {columns.count(wanted)} times, not once: "
                f"{abbreviated(map(repr, names), most=20)}"
            )
    return columns
