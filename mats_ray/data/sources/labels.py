"""Label names as people would write them, and names for AudioSet's machine ids."""

import json
import re

from mats_ray.data.sources.rows import AnnotationFile, Rejected
from mats_ray.data.sources.tables import table_records
from mats_ray.errors import DataError

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SPACES = re.compile(r"\s+")


def plain(label: str) -> str:
    """Normalise a label: ``Bark_and_howl`` -> ``Bark and howl``, ``cafe/bar`` -> ``cafe or bar``."""
    label = _CAMEL.sub(" ", label.replace("_", " ")).replace("/", " or ")
    return _SPACES.sub(" ", label).strip(" '\"")


def in_sentence(label: str) -> str:
    """Return a label as it stands inside a sentence: lower case but for abbreviations and the like."""
    words = label.split(" ")
    return " ".join(word.lower() if word[1:].islower() or len(word) == 1 else word for word in words)


def joined(labels: tuple[str, ...]) -> str:
    """Join labels the way a sentence lists things."""
    spoken = [in_sentence(label) for label in labels]
    return spoken[0] if len(spoken) == 1 else f"{', '.join(spoken[:-1])} and {spoken[-1]}"


def names_by_id(file: AnnotationFile) -> dict[str, str]:
    """Read AudioSet's names from the companion ``names``: 527 to 632 of them.

    It may be ``class_labels_indices.csv``, the headerless ``mid_to_display_name.tsv`` or ``ontology.json``.

    Raises:
        DataError: It is missing or none of these.
    """
    what = "AudioSet's label names (class_labels_indices.csv, mid_to_display_name.tsv or ontology.json)"
    names: dict[str, str] = {}
    for path in file.require("names", what):
        names |= _names(file.beside(path))
    return names


def _names(file: AnnotationFile) -> dict[str, str]:
    if file.name.endswith(".json"):
        with file.open() as stream:
            try:
                return {one["id"]: one["name"] for one in json.load(stream)}
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{file.path} is not AudioSet's ontology: {error!r}") from None
    if file.name.endswith(".tsv"):
        records = table_records(file, names=("mid", "display_name"), delimiter="\t", quoted=False)
    else:
        records = table_records(file, needed=("mid", "display_name"))
    return {one[1]["mid"]: one[1]["display_name"] for one in records if not isinstance(one, Rejected)}
