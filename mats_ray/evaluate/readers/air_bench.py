"""Chat questions of AIR-Bench: open answers, rated by a judge that reads a description of the audio."""

import json
from collections.abc import Iterator, Set
from typing import Any

from mats_ray.data.annotations.json_records import json_items
from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Rejected
from mats_ray.evaluate.benchmark import Entry, Sample, SampleReader

OTHER_TASK = "of another task"
_TEXTS = ("task_name", "dataset_name", "path", "question", "answer_gt")


def reader(tasks: Set[str]) -> SampleReader:
    """Make a reader of ``Chat_meta.json`` that leaves out all other tasks.

    ``meta_info`` of a sample's categories is the description of its audio for the judge.
    """

    def read(file: AnnotationFile) -> Iterator[Entry]:
        for found in json_items(file):
            if isinstance(found, Rejected):
                yield found
            elif not isinstance(found[1], dict):
                yield Rejected(found[0], "no JSON object")
            elif found[1].get("task_name") not in tasks:
                yield Dropped(found[0], OTHER_TASK)
            else:
                yield _sample(*found)

    return read


def _sample(number: int, item: dict[str, Any]) -> Entry:
    texts = [item.get(key) for key in _TEXTS]
    if not all(isinstance(text, str) and text.strip() for text in texts) or item.get("uniq_id") is None:
        return Rejected(number, f"one of {', '.join(_TEXTS)} is empty, or there is no uniq_id")
    task, dataset, path, question, answer = map(str.strip, map(str, texts))
    folder = f"{task}_{dataset}"
    description = item.get("meta_info", "")
    if not isinstance(description, str):
        description = json.dumps(description, ensure_ascii=False)
    return Sample(
        id=str(item["uniq_id"]),
        audio=(f"Chat/{folder}/{path}", f"{folder}/{path}"),
        references=(answer,),
        question=question,
        categories={"task_name": task, "dataset_name": dataset, "meta_info": description},
    )
