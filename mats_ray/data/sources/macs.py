"""MACS: YAML, two to five captions per file, each with its annotator and tags."""

from collections.abc import Iterator
from typing import Any

import yaml

from mats_ray.data.annotations.cell_values import text_or_missing
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row
from mats_ray.errors import DataError


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``MACS.yaml``: 4 MB, held in memory.

    Raises:
        DataError: It is not YAML, or not of this shape.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with file.open() as stream:
        try:
            tree = yaml.load(stream, Loader=loader)  # noqa: S506  (both are safe loaders)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise DataError(f"{file.path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("files"), list):
        raise DataError(f"{file.path} holds no list 'files'")
    for number, item in enumerate(tree["files"], start=1):
        yield from _captions(number, item)


def _captions(number: int, item: Any) -> Iterator[Entry]:
    annotations = item.get("annotations") if isinstance(item, dict) else None
    if not isinstance(annotations, list) or not annotations or not text_or_missing(item.get("filename")):
        yield Rejected(number, "no filename or no annotations")
        return
    for place, annotation in enumerate(annotations, start=1):
        sentence = text_or_missing(annotation.get("sentence") if isinstance(annotation, dict) else None)
        if sentence:
            yield Row(number, f"{item['filename']}/{place}", text=sentence)
        else:
            yield Rejected(number, f"annotation {place} has no sentence")
