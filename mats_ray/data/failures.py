"""What Ray makes of an error, told in the error's own words; and its narration kept down."""

import contextlib
import logging
import re
from collections.abc import Iterator

from mats_ray import errors


@contextlib.contextmanager
def only_warnings() -> Iterator[None]:
    """Keep Ray Data from narrating its executions."""
    narrator = logging.getLogger("ray.data")
    before = narrator.level
    narrator.setLevel(logging.WARNING)
    try:
        yield
    finally:
        narrator.setLevel(before)


def told_plainly(error: Exception) -> Exception:
    """Find this package's own error in what Ray makes of one: a text with tracebacks of every process."""
    said = re.findall(r"^mats_ray\.errors\.(\w+): (.+)$", str(error), re.MULTILINE)
    kind = getattr(errors, said[-1][0], None) if said else None
    return kind(said[-1][1]) if kind and not issubclass(kind, errors.AudioError) else error
