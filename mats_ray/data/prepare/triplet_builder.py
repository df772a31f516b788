"""Triplets of one record of a source (id, text, instruction, answer, licence), or why there are none."""

import json
from dataclasses import dataclass, field
from typing import Any

from mats_ray.data.annotations.cell_values import is_missing_text, text_or_missing
from mats_ray.data.annotations.json_records import json_lines
from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Rejected, Row
from mats_ray.data.prepare.instructions import draw_instruction, pick
from mats_ray.data.prepare.label_sentences import readable_label, sentence
from mats_ray.data.sources.registry import Source
from mats_ray.errors import DataError
from mats_ray.tasks import Task
from mats_ray.text import is_valid_unicode

TripletRow = tuple[str, ...]
"""Values of a triplet in the order of ``data.triplets.COLUMNS``."""
MAX_CHARACTERS = 20_000
"""Longest text, question or answer: more is no caption but a broken file."""


@dataclass(frozen=True, slots=True)
class TripletBuilder:
    """Builds the triplets of one annotation file."""

    source: Source
    split: str
    """Split of records that name none."""
    splits: tuple[str, ...]
    copies: int
    seed: int
    license_allow: frozenset[str] = frozenset()
    descriptions: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """The user's descriptions by label, in lower case."""

    def __call__(self, row: Row) -> list[TripletRow] | Dropped | Rejected:
        """Build triplets: ``copies`` of each record."""
        split = row.split or self.split
        if split not in self.splits:
            return Dropped(row.number, f"split {split}")
        license_ = row.license or self.source.license
        if self.license_allow and license_ not in self.license_allow:
            return Dropped(row.number, f"licence {license_}")
        if fault := _fault(row):
            return Rejected(row.number, fault)
        base = f"{self.source.name}/{split}/{row.key}"
        ids = [base] if self.copies == 1 else [f"{base}#{copy}" for copy in range(self.copies)]
        task = row.task or self.source.task
        tail = (str(task), self.source.name, split, license_)
        return [(row_id, *self._texts(row, row_id, task), *tail) for row_id in ids]

    def _texts(self, row: Row, row_id: str, task: Task) -> tuple[str, str, str]:
        """Text, instruction and answer."""
        if task is Task.QA:
            return clean(row.text), clean(row.question), clean(row.answer)
        instruction = clean(row.question) or draw_instruction(task, seed=self.seed, row_id=row_id)
        if not row.labels:
            text = clean(row.text)
            return text, instruction, clean(row.answer) or text
        text = self._description(row.labels, row_id)
        return text, instruction, "; ".join(readable_label(label) for label in row.labels)

    def _description(self, labels: tuple[str, ...], row_id: str) -> str:
        assert self.source.kind is not None
        own = [self.descriptions.get(readable_label(label).lower()) for label in labels]
        if all(own):
            drawn = (
                pick(texts, f"own {n}", seed=self.seed, row_id=row_id) for n, texts in enumerate(own) if texts
            )
            return " ".join(drawn)
        return sentence(labels, self.source.kind, seed=self.seed, row_id=row_id)


def clean(text: str) -> str:
    """Put a text on one line."""
    return " ".join(text.split())


def _fault(row: Row) -> str | None:
    parts = (row.key, row.text, row.question, row.answer, *row.labels)
    if not row.key:
        return "no id"
    if is_missing_text(row.text) and not row.labels:
        return "empty text"
    if any(is_missing_text(readable_label(label)) for label in row.labels):
        return "empty label"
    if any(len(part) > MAX_CHARACTERS for part in parts):
        return f"longer than {MAX_CHARACTERS} characters"
    return None if is_valid_unicode(parts) else "not UTF-8"


def read_descriptions(path: str | None) -> dict[str, tuple[str, ...]]:
    """Read own descriptions, ``{"label": ..., "text": ...}`` or ``{"label": ..., "texts": [...]}`` per line.

    Held in memory: some 50 sentences for each of some hundred labels.

    Raises:
        DataError: A line is not of this shape.
    """
    found: dict[str, tuple[str, ...]] = {}
    for entry in json_lines(AnnotationFile(path, "")) if path else ():
        if isinstance(entry, Rejected):
            raise DataError(f"{path} line {entry.number}: {entry.reason}")
        number, item = entry
        texts = _texts_of(item)
        if not texts:
            shape = '{"label": ..., "text": ...} or {"label": ..., "texts": [...]}'
            raise DataError(f"{path} line {number}: expected {shape}, got {json.dumps(item)[:80]}")
        label = readable_label(str(item["label"])).lower()
        found[label] = (*found.get(label, ()), *texts)
    return found


def _texts_of(item: Any) -> list[str]:
    if not isinstance(item, dict) or not text_or_missing(item.get("label")):
        return []
    texts = item.get("texts", [item.get("text")])
    if not isinstance(texts, list) or not all(map(text_or_missing, texts)):
        return []
    return [clean(str(one)) for one in texts]
