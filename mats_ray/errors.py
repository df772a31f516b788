"""Errors of this package, for users: one root, one class per kind of cause.

The command line prints ``str(error)`` as its one last line and exits with ``exit_code``.
"""

import traceback
from collections.abc import Iterable
from typing import TypeVar

_Error = TypeVar("_Error", bound=BaseException)


class MATSError(Exception):
    """Root of the errors this package raises on purpose; the text names input, value and remedy."""

    exit_code = 1


class ConfigError(MATSError):
    """A configuration key or value that is not allowed, or a command line that is not valid."""

    exit_code = 2


class DataError(MATSError):
    """A triplet, Parquet file or annotation file that is missing, malformed or of another model."""


class ClusterError(MATSError):
    """A Ray cluster that cannot be joined, or that ended the work: no memory left, a node lost."""


class StorageError(DataError, OSError):
    """A file or folder, local or remote, that cannot be read, listed or written; names it and the cause."""


class MissingError(StorageError, FileNotFoundError):
    """A file that is not there, or a bucket."""


class CodedError(MATSError):
    """One input or request that cannot be used; those beside it can.

    Attributes:
        code: Short machine-readable cause, written to the ``error_code`` column of batch output and to
            HTTP error bodies.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling between processes: the default would drop ``code``."""
        return (_rebuild_coded, (type(self), str(self), self.code))


def _rebuild_coded(kind: type[CodedError], message: str, code: str) -> CodedError:
    return kind(message, code=code)


class AudioError(CodedError):
    """One piece of audio that cannot be used.

    Attributes:
        code: ``not_found``, ``read_failed``, ``changed`` (since it was listed), or one of
            ``AudioDecodeError``'s.
    """


class AudioDecodeError(AudioError):
    """Bytes that are no audio, or more audio than the limits allow.

    Attributes:
        code: ``empty`` (no bytes, no samples), ``not_audio`` (something else, a video without sound),
            ``unsupported`` (audio of a kind, a sample rate or a number of channels that is not read, or
            float samples of an integer scale), ``truncated`` (cut off), ``damaged`` (spoilt before its end,
            or samples that no scale explains), ``not_finite`` (NaN or infinite samples, or such an
            embedding), ``too_long`` (seconds), ``too_large`` (bytes, stored or decoded).
    """


class AnswerError(CodedError):
    """One request that the model cannot answer.

    Attributes:
        code: ``prompt_too_long`` (prompt and answer need more positions than the model has), ``not_finite``
            (an embedding with NaN or infinite numbers), ``answer_failed`` (the model computed such numbers).
    """


class EngineError(MATSError):
    """The engine has stopped: its process answers no more requests and must be replaced.

    Attributes:
        in_flight: The request was being computed when the engine stopped, so it may be the cause.
    """

    def __init__(self, message: str, *, in_flight: bool = False) -> None:
        super().__init__(message)
        self.in_flight = in_flight

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling between processes: the default would drop ``in_flight``."""
        return (_rebuild_engine_error, (str(self), self.in_flight))


def _rebuild_engine_error(message: str, in_flight: bool) -> EngineError:  # noqa: FBT001 (pickle passes no keywords)
    return EngineError(message, in_flight=in_flight)


class ModelError(MATSError):
    """A model directory or checkpoint file that is missing, cut off, or does not fit the configuration."""


class TrainingError(MATSError):
    """A training run that cannot continue: a loss that is not finite, a checkpoint or worker lost."""


class RehearsalError(MATSError):
    """A stage of a rehearsal that failed; names its log and its last line."""


class NotFiniteError(TrainingError):
    """A loss or gradient norm that is not a number, or infinite.

    Attributes:
        certain: The samples it names are those of a micro-batch whose own loss was not finite.
    """

    def __init__(self, message: str, *, certain: bool = False) -> None:
        super().__init__(message)
        self.certain = certain

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling between processes: the default would drop ``certain``."""
        return (_rebuild_not_finite, (str(self), self.certain))


def _rebuild_not_finite(message: str, certain: bool) -> NotFiniteError:  # noqa: FBT001 (pickle passes no keywords)
    return NotFiniteError(message, certain=certain)


def free_frames(error: _Error) -> _Error:
    """Free the variables of the calls that led to an error that is kept: a failed pass has its tensors there.

    The text of its traceback becomes a note of it; it and its causes lose the frames, and with them their
    callers'.
    """
    if error.__traceback__ is not None:
        error.add_note("".join(traceback.format_exception(error)).rstrip())
    current: BaseException | None = error
    while current is not None and current.__traceback__ is not None:
        current.__traceback__ = None
        current = current.__cause__ or current.__context__
    return error


def abbreviated(names: Iterable[object], *, most: int = 5, width: int = 100) -> str:
    """List names in an error text, on one line of bounded length: "a, b, c and 196 more".

    Args:
        names: In the order they are listed in.
        most: Names listed; the others are counted.
        width: Characters of one name; a longer one keeps its start.
    """
    texts = [" ".join(str(name).split()) for name in names]
    texts = [text if len(text) <= width else f"{text[:width]}..." for text in texts]
    rest = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + rest
