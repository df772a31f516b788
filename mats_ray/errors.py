"""Everything that can go wrong in words a user understands: one root, one class per kind of cause.

The command line prints ``str(error)`` as its one last line and exits with ``exit_code``.
"""


class MATSError(Exception):
    """Root of every error this package raises on purpose; its text names the thing, the value, the remedy."""

    exit_code = 1


class ConfigError(MATSError):
    """A configuration key or value that is not allowed, or a command line that makes no sense."""

    exit_code = 2


class DataError(MATSError):
    """A triplet, Parquet file or annotation file that is missing, malformed or of another model."""


class StorageError(DataError, OSError):
    """A file or folder, local or remote, that cannot be read, listed or written; names it and the cause."""


class MissingError(StorageError, FileNotFoundError):
    """A file that is not there, or a bucket."""


class AudioError(MATSError):
    """One piece of audio that cannot be used.

    Attributes:
        code: Short machine-readable cause, written to the ``error_code`` column of batch output and to
            HTTP error bodies: ``not_found``, ``read_failed``, or one of ``AudioDecodeError``'s.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling between processes: the default would drop ``code``."""
        return (_rebuild_audio_error, (type(self), str(self), self.code))


class AudioDecodeError(AudioError):
    """Bytes that are there and make no audio, or more of it than is taken.

    Attributes:
        code: ``empty`` (no bytes, no samples), ``not_audio`` (something else, a video without sound),
            ``unsupported`` (audio of a kind, a sample rate or a number of channels that is not read),
            ``truncated`` (cut off), ``damaged`` (spoilt before its end), ``not_finite`` (NaN or infinite
            samples, or such an embedding), ``too_long`` (seconds), ``too_large`` (bytes, stored or decoded).
    """


def _rebuild_audio_error(kind: type[AudioError], message: str, code: str) -> AudioError:
    return kind(message, code=code)


class ModelError(MATSError):
    """A model directory or checkpoint file that is missing, cut off, or does not fit the configuration."""


class TrainingError(MATSError):
    """A training run that cannot go on: a loss that is not finite, an unusable checkpoint, a lost worker."""


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


def _rebuild_not_finite(message: str, certain: bool) -> NotFiniteError:  # noqa: FBT001 (pickle knows no keywords)
    return NotFiniteError(message, certain=certain)
