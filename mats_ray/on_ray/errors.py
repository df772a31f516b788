"""Our own error inside Ray's.

An error that a task, an actor or a replica raises reaches its caller inside an exception of Ray's: as an
object where Ray keeps it, else only as the text of a remote traceback.
"""

import re
from collections.abc import Iterator

from ray.exceptions import RayTaskError

from mats_ray import errors
from mats_ray.errors import CodedError, MATSError

_OWN_LINE = re.compile(r"^mats_ray\.errors\.(\w+): (.+)$", re.MULTILINE)
"""Last line of a traceback that ends in one of our errors."""
_COLOUR = re.compile(r"\x1b\[\d+m")
_LOW_MEMORY = re.compile(r"\blow on memory\b|out of memory issue")
"""In the texts of Ray's memory monitor, whose last line is advice about Ray's own settings."""
OUT_OF_MEMORY = (
    "its node was low on memory and Ray killed a process; use fewer processes, smaller batches, or a larger"
    " machine"
)
_MARKER = ("ray.data.exceptions", "SystemException")
"""By name: importing it imports Ray Data, which processes of the service do without."""
_RETRY_NOTE = re.compile(r"\nFailed to .+ after \d+/\d+ attempts .*", re.DOTALL)
"""What Ray Data appends to the text of an error that a task raises."""


def own_error(error: BaseException | str) -> MATSError | None:
    """Find the ``MATSError`` that a remote process raised; None if it raised another one.

    Args:
        error: What Ray raised here, or the text of a remote traceback.
    """
    if isinstance(error, BaseException):
        for cause in _causes(error):
            if isinstance(cause, MATSError):
                cause.args = tuple(_without_retry_note(argument) for argument in cause.args)
                return cause
    return _from_text(str(error))


def failure_reason(error: BaseException | str) -> str:
    """Return why it failed, in one line: our own error's text, that memory ran out, else the last line.

    The last line is that of the innermost cause.
    """
    if (found := own_error(error)) is not None:
        return str(found)
    if isinstance(error, BaseException):
        *_, error = _causes(error)
    text = str(error)
    if _LOW_MEMORY.search(text):
        return OUT_OF_MEMORY
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines:
        return lines[-1]
    return type(error).__name__ if isinstance(error, BaseException) else "no reason given"


def task_traceback(error: RayTaskError) -> str:
    """Return the traceback of what a task raised, without those of Ray's own errors around it."""
    text = str(error.cause if isinstance(error.cause, RayTaskError) else error)
    return _COLOUR.sub("", text.split("\n\nThe above exception was")[0]).strip()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it, outermost first; of Ray's wrapper only the error inside.

    Ray Data raises what ended an execution from an empty ``SystemException``, which causes nothing.
    """
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen:  # an error raised "from" itself is its own cause
        seen.add(id(current))
        if isinstance(current, RayTaskError):  # Ray raises it as a subclass of the cause's class, too
            current = current.cause
            continue
        if (type(current).__module__, type(current).__name__) != _MARKER:
            yield current
        current = current.__cause__


def _without_retry_note(argument: object) -> object:
    return _RETRY_NOTE.sub("", argument) if isinstance(argument, str) else argument


def _from_text(text: str) -> MATSError | None:
    found = _OWN_LINE.findall(text)
    kind = getattr(errors, found[-1][0], None) if found else None
    # a text holds no code: without one, a coded error would be another
    return None if kind is None or issubclass(kind, CodedError) else kind(found[-1][1])
