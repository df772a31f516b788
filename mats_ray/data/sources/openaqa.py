"""OpenAQA (LTU): open-ended questions; the closed-ended rows of the same clip hold its caption or labels.

One JSON list of 2.3 GB. It is read twice: captions and labels go to a file on disk by clip, then each
open-ended question gets its clip's text from there. Neither pass holds more than a window of the list.
"""

from collections.abc import Iterator
from typing import Any

from mats_ray.data.annotations.cell_values import text_or_missing
from mats_ray.data.annotations.json_records import json_items, json_lines
from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Entry, Rejected, Row
from mats_ray.data.annotations.text_lookup import TextLookup, add_caption

OPEN = "open-ended question"
CLOSED = "closed-ended (its text serves the questions)"
NOT_ANSWERABLE = "not answerable"
NO_TEXT = "no caption or label of its clip"

UNANSWERED = (
    "cannot be determined",
    "can't be determined",
    "cannot be answered",
    "not possible to determine",
    "impossible to determine",
    "impossible to say",
    "not possible to say",
    "cannot determine",
    "can't determine",
    "unable to determine",
    "difficult to determine",
    "hard to determine",
    "cannot be inferred",
    "not enough information",
    "insufficient information",
    "no information",
    "not specified",
    "not mentioned",
    "not provided",
    "not clear from",
    "it is unclear",
    "it's unclear",
    "unknown",
    "cannot tell",
    "cannot be known",
    "not applicable",
    "i don't know",
)
"""Phrases of answers that say nothing about the audio (ours; LTU filters by a list of the same kind)."""


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``instruction, input, audio_id, dataset, task, output`` rows.

    Texts come from the companions ``captions`` (JSON Lines of ``audio_id``, ``caption``) where given, else
    from the file's own captions, else from its label lists.
    """
    with TextLookup() as captions, TextLookup() as labels:
        _fill(file, captions, labels)
        previous, text = "", ""
        for found in json_items(file):
            if isinstance(found, Rejected):
                yield found
                continue
            number, item = found
            if not _complete(item):
                yield Rejected(number, "no instruction, audio_id, task or output")
            elif item["task"] != OPEN:
                yield Dropped(number, CLOSED)
            elif any(phrase in item["output"].lower() for phrase in UNANSWERED):
                yield Dropped(number, NOT_ANSWERABLE)
            else:
                if item["audio_id"] != previous:
                    previous = item["audio_id"]
                    text = next(iter(captions.get(previous) or labels.get(previous)), "")
                yield _row(number, item, text)


def _row(number: int, item: dict[str, str], text: str) -> Entry:
    if not text:
        return Dropped(number, NO_TEXT)
    clip = item["audio_id"].rpartition("/")[2]
    return Row(number, f"{clip}/{number}", text=text, question=item["instruction"], answer=item["output"])


def _complete(item: Any) -> bool:
    return isinstance(item, dict) and all(
        text_or_missing(item.get(name)) for name in ("instruction", "audio_id", "task", "output")
    )


def _fill(file: AnnotationFile, captions: TextLookup, labels: TextLookup) -> None:
    for path in file.companions.get("captions", ()):
        for found in json_lines(file.companion(path)):
            add_caption(captions, found, clip="audio_id")
    for found in json_items(file):
        if isinstance(found, Rejected) or not _complete(found[1]):
            continue
        item = found[1]
        if item["task"].startswith("caption"):
            captions.add(item["audio_id"], item["output"].partition("Audio caption: ")[2] or item["output"])
        elif item["task"] == "cla_label":
            labels.add(item["audio_id"], item["output"].partition("Labels: ")[2] or item["output"])
