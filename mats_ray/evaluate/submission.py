"""Answers for the authors' own script or server: their annotation items, each with its answer.

OUT/<benchmark>/<file of the submission>
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mats_ray.data.annotations.json_records import json_list_or_lines
from mats_ray.data.annotations.reader import AnnotationFile, Rejected
from mats_ray.evaluate.benchmark import Submission
from mats_ray.evaluate.log import EvaluationLog
from mats_ray.storage import write_bytes


def write_submission(log: EvaluationLog, submission: Submission, annotations: str) -> None:
    """Copy the items of an annotation file that are samples, and add their answers.

    An answer that is missing or an error is empty: the authors' scripts leave items without one out of the
    denominator.

    Args:
        log: Of the benchmark, with its rows.
        submission: Keys, and the name of the file.
        annotations: The annotation file.

    Raises:
        DataError: It cannot be read.
    """
    answers = {row.sample.id: row.answer if row.status == "ok" else "" for row in log.rows()}
    write_bytes(log.path(submission.file), _encoded(submission, _items(annotations), answers))


def _items(path: str) -> list[dict[str, Any]]:
    found = json_list_or_lines(AnnotationFile(path, ""))
    return [one[1] for one in found if not isinstance(one, Rejected) and isinstance(one[1], dict)]


def _encoded(submission: Submission, items: Sequence[dict[str, Any]], answers: Mapping[str, str]) -> bytes:
    answered = [
        item | {submission.answer_key: answers[name]}
        for item in items
        if (name := str(item.get(submission.id_key))) in answers
    ]
    if submission.file.endswith(".jsonl"):
        return "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in answered).encode()
    return f"{json.dumps(answered, ensure_ascii=False, indent=1)}\n".encode()
