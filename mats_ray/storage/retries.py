"""Another attempt where a storage fails, and what failed in one line."""

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

ATTEMPTS, ATTEMPTS_REFUSED = 5, 2
"""To reach a storage that fails; that says no (keys that are wrong or have expired)."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 20.0
"""Twice as long each time; the wait itself is drawn between nothing and that."""

Result = TypeVar("Result")

_LASTING = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, StorageError)
_REPLACED = ("PreconditionFailed", "412")
"""What another attempt would not mend: errors, and S3's codes."""


class ChangedError(StorageError):
    """A file that is no longer the one that was listed."""


def retry(action: Callable[[], Result], *, attempts: int = ATTEMPTS, warn: str = "") -> Result:
    """Do something with a storage again while it fails, waiting longer each time, by chance.

    Without chance all workers would come back at the same moment.

    Args:
        action: Safe to be repeated.
        attempts: At most.
        warn: What failed, for a warning before each wait.

    Raises:
        Exception: Of the last attempt; at once where another attempt would not mend it.
    """
    for attempt in itertools.count(1):
        try:
            return action()
        except Exception as error:
            refused = isinstance(error, PermissionError)
            if attempt >= (min(attempts, ATTEMPTS_REFUSED) if refused else attempts) or _is_lasting(error):
                raise
            longest = min(FIRST_WAIT_SECONDS * 2 ** (attempt - 1), LONGEST_WAIT_SECONDS)
            wait = random.uniform(0, longest)  # noqa: S311  (no secret)
            if warn:
                logger.warning("%s: %s; trying again in %.1f s", warn, reason_of(error), wait)
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _is_lasting(error: Exception) -> bool:
    return isinstance(error, _LASTING) or code_of(error) in _REPLACED


@contextlib.contextmanager
def named(path: str, what: str) -> Iterator[None]:
    """Name path and cause of whatever fails, in one line.

    Raises:
        MissingError: Nothing is there.
        ChangedError: It is no longer what was asked for.
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
    """Say what an error says in one line, without keys and passwords."""
    if code_of(error) == "NoSuchBucket":
        return "no bucket of that name"
    text = (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {error}"
    for name in SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return re.sub(r"//[^/@\s]+@", "//***@", " ".join(text.split()))


def code_of(error: BaseException) -> str:
    """Return S3's own word for an error; empty for others."""
    response: Any = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
