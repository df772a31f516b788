"""Who may ask: Bearer keys from a file and the environment, and how often each may.

Lines of the file, or items of the variable between commas, read ``name:key`` or ``key``; a ``#`` begins a
comment. Only hashes of keys are kept. The file is read again when it changes; nobody has to restart anything.
"""

import hashlib
import hmac
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mats_ray.errors import ConfigError

logger = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 1.0
_MIN_KEY_LENGTH = 8


class KeyRing:
    """The keys that open the service.

    Args:
        file: Where they are; None: no file.
        variable: Environment variable with more of them; read once.
        environment: Where the variable is looked up.
        clock: Monotonic seconds.

    Raises:
        ConfigError: The file cannot be read, or what should be a key is too short to be one.
    """

    def __init__(
        self,
        *,
        file: str | None = None,
        variable: str = "MATS_API_KEYS",
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = None if file is None else Path(file).expanduser()
        self._clock = clock
        self._from_environment = _parse(environment.get(variable, "").replace(",", "\n"), f"${variable}")
        self._names: dict[bytes, str] = {}
        self._stamp: object = None
        self._looked_at = clock()
        self._load()

    @property
    def is_open(self) -> bool:
        """No keys are configured: everybody may ask."""
        return self._file is None and not self._from_environment

    def name_of(self, key: str) -> str | None:
        """Return the name of a key's owner, None if it is not a key; takes the same time for every key."""
        self._look_again()
        digest, found = _hash(key), None
        for known, name in self._names.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _look_again(self) -> None:
        now = self._clock()
        if self._file is None or now - self._looked_at < _LOOK_AGAIN_SECONDS:
            return
        self._looked_at = now
        try:
            if _stamp_of(self._file) != self._stamp:
                self._load()
                logger.warning("read %d keys again from %s", len(self._names), self._file)
        except ConfigError as error:
            logger.error("the keys stay as they were: %s", error)  # noqa: TRY400  its text says it all

    def _load(self) -> None:
        names = dict(self._from_environment)
        if self._file is not None:
            try:
                self._stamp = _stamp_of(self._file)
                names |= _parse(self._file.read_text("utf-8"), str(self._file))
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"the API keys in {self._file} cannot be read: {error}") from None
            if not names:
                raise ConfigError(f"there are no API keys in {self._file}")
        self._names = names


class RateLimit:
    """A bucket of requests per key: full at first, filled evenly.

    Args:
        per_minute: Size of a bucket, and what flows in; None: no limit.
        clock: Monotonic seconds.
    """

    def __init__(self, per_minute: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait_seconds(self, name: str) -> int:
        """Take one request out of a bucket; 0, or the seconds after which there will be one again."""
        if self._per_minute is None:
            return 0
        now, per_second = self._clock(), self._per_minute / 60
        level, since = self._buckets.get(name, (float(self._per_minute), now))
        level = min(float(self._per_minute), level + (now - since) * per_second)
        if level < 1:
            self._buckets[name] = (level, now)
            return math.ceil((1 - level) / per_second)
        self._buckets[name] = (level - 1, now)
        return 0


def _stamp_of(file: Path) -> object:
    try:
        found = file.stat()
    except OSError as error:
        raise ConfigError(f"the API keys in {file} cannot be read: {error.strerror}") from None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _parse(text: str, source: str) -> dict[bytes, str]:
    names: dict[bytes, str] = {}
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    for number, line in enumerate(filter(None, lines), start=1):
        name, colon, key = line.partition(":")
        if not colon:
            name, key = f"key-{number}", line
        if len(key.strip()) < _MIN_KEY_LENGTH:
            raise ConfigError(f"{source}: key {number} has fewer than {_MIN_KEY_LENGTH} characters")
        names[_hash(key.strip())] = name.strip()
    return names


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
