"""Retries of operations on storage, and their errors in one line."""

import contextlib
import itertools
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from mats_ray.errors import MATSError, MissingError, StorageError
from mats_ray.storage.access import SECRETS

logger = logging.getLogger(__name__)

ATTEMPTS = 5
ATTEMPTS_REFUSED = 2
"""Number of attempts if a storage fails, and if it refuses (keys that are wrong or have expired)."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 20.0
"""Longest waits, doubled each time; the wait itself is drawn between 0 and that."""

Result = TypeVar("Result")

_PERMANENT = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, StorageError)
_REPLACED = ("PreconditionFailed", "412")
"""Errors, and codes of S3, that a retry would not mend."""


class ChangedError(StorageError):
    """A file that is no longer the one that was listed."""


def retry(action: Callable[[], Result], *, attempts: int = ATTEMPTS, warn: str = "") -> Result:
    """Retry an operation on a storage while it fails, with exponential backoff and jitter.

    Without jitter all workers would come back at the same moment.

    Args:
        action: Safe to be repeated.
        attempts: Largest number of attempts.
        warn: Name of the operation, for a warning before each wait.

    Raises:
        Exception: That of the last attempt; at once where a retry would not mend it.
    """
    for attempt in itertools.count(1):
        try:
            return action()
        except Exception as error:
            refused = isinstance(error, PermissionError)
            if attempt >= (min(attempts, ATTEMPTS_REFUSED) if refused else attempts) or _is_permanent(error):
                raise
            longest = min(FIRST_WAIT_SECONDS * 2 ** (attempt - 1), LONGEST_WAIT_SECONDS)
            wait = random.uniform(0, longest)  # noqa: S311  (no secret)
            if warn:
                logger.warning("%s: %s; trying again in %.1f s", warn, reason_of(error), wait)
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _is_permanent(error: Exception) -> bool:
    return isinstance(error, _PERMANENT) or code_of(error) in _REPLACED


@contextlib.contextmanager
def storage_errors(path: str, what: str) -> Iterator[None]:
    """Raise any failure as an error that names path and cause, in one line.

    Raises:
        MissingError: Nothing is there.
        ChangedError: It is no longer the version that was listed.
        StorageError: Anything else.
    """
    try:
        yield
    except MATSError:
        raise
    except FileNotFoundError as error:
        raise MissingError(f"{path} cannot be {what}: {reason_of(error)}") from error
    except Exception as error:  # every kind of store has its own
        if code_of(error) in _REPLACED:
            raise ChangedError(f"{path} changed while it was read") from error
        raise StorageError(f"{path} cannot be {what}: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """Return the text of an error on one line, without keys and passwords."""
    if code_of(error) == "NoSuchBucket":
        return "no bucket of that name"
    text = (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {error}"
    for name in SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return re.sub(r"//[^/@\s]+@", "//***@", " ".join(text.split()))


def code_of(error: BaseException) -> str:
    """Return S3's error code; empty for other errors."""
    response: Any = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
