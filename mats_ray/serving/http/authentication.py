"""API keys, from a file and the environment, their rate limits, and the layer that checks both.

Lines of the file, or items of the variable between commas, read ``name:key`` or ``key``; a ``#`` begins a
comment. Only hashes of keys are kept. The file is read again within a second of a change; keys
that are no longer in it are refused, also when it was emptied or deleted.
"""

import hashlib
import hmac
import ipaddress
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from mats_ray.errors import ConfigError
from mats_ray.serving.errors import RequestError
from mats_ray.serving.http.errors import refuse
from mats_ray.serving.http.middleware import RouteSet
from mats_ray.serving.metrics import Metrics

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_READS = 1.0
_MIN_KEY_LENGTH = 8
ANONYMOUS = "anonymous"
OPEN = RouteSet("/health", "/readyz", "/", "/docs", "/openapi.json", "/page/{name:path}")
"""The routes that need no key. Every other request needs one, also one that has no route."""


class KeyRing:
    """The keys that are accepted.

    Args:
        file: Path of a file of keys; None: no file.
        variable: Environment variable with more of them; read once.
        environment: Holds the variable.
        clock: Monotonic seconds.

    Raises:
        ConfigError: The file cannot be read or holds no keys, or a line holds what cannot be a key.
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
        self._clock, self._metrics = clock, Metrics()
        self._from_environment, faults = _parse(environment.get(variable, "").replace(",", "\n").encode())
        if faults:
            raise ConfigError(f"${variable}: {faults[0].replace('line', 'item')}")
        self._names, self._faults = dict(self._from_environment), list[str]()
        self._digest: bytes | None = None
        self._read_at = clock()
        if self._file is None:
            return
        self._read(self._file)
        if self._faults:
            raise ConfigError(f"the API keys in {self._file}: {self._faults[0]}")
        if not self._names:
            raise ConfigError(f"there are no API keys in {self._file}")

    @property
    def is_open(self) -> bool:
        """No keys are configured: every request is accepted."""
        return self._file is None and not self._from_environment

    def report_to(self, metrics: Metrics) -> None:
        """Record the number of unusable lines of the file in ``mats_key_file_errors``, from now on."""
        self._metrics = metrics
        metrics.record("mats_key_file_errors", len(self._faults))

    def name_of(self, key: str) -> str | None:
        """Return the name of a key's owner, None if it is not a key; in the same time for every key."""
        if self._file is not None and self._clock() - self._read_at >= _SECONDS_BETWEEN_READS:
            self._read_at = self._clock()
            self._read(self._file)
        digest, found = _hash(key), None
        for known, name in self._names.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _read(self, file: Path) -> None:
        """Replace the file's keys if its content has changed; modification times are not reliable."""
        try:
            content = file.read_bytes()
        except OSError as error:
            names, faults, digest = {}, [f"it cannot be read: {error.strerror}"], b""
        else:
            if (digest := hashlib.sha256(content).digest()) == self._digest:
                return
            names, faults = _parse(content)
        if self._digest is not None and (digest, faults) != (self._digest, self._faults):
            logger.warning("the API keys in %s changed: it holds %d", file, len(names))
            for fault in faults:
                logger.error("the API keys in %s: %s", file, fault)
        self._digest, self._faults = digest, faults
        self._names = self._from_environment | names
        self._metrics.record("mats_key_file_errors", len(faults))


class RateLimit:
    """A token bucket per key, full at first.

    Args:
        per_minute: Size of a bucket, and its refill rate; None: no limit.
        clock: Monotonic seconds.
    """

    def __init__(self, per_minute: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait_seconds(self, name: str) -> int:
        """Count one request; return 0, or the seconds until the next one will be allowed."""
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


def check_loopback(host: str) -> None:
    """Check an address to listen on without keys: only this machine may reach it.

    Raises:
        ConfigError: Other machines can reach it.
    """
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigError(
            f"there are no API keys, so {host} is no address to listen on: give serve.api_keys_file or "
            "$MATS_API_KEYS, or say serve.allow_anonymous=true"
        )


class Authentication:
    """Requires a key for every route but those of ``OPEN``, before anything of a body is read.

    Args:
        app: The next layer.
        keys: The keys that are accepted.
        rate: Limit of requests per key.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyRing, rate: RateLimit) -> None:
        self.app, self._keys, self._rate = app, keys, rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse with 401 or 429, or pass the request on and record the key's name."""
        if scope["type"] == "websocket":  # there is no such route
            return await WebSocketClose()(scope, receive, send)
        if scope["type"] == "lifespan" or OPEN.matches(scope):
            return await self.app(scope, receive, send)
        name = self._name_of(scope)
        if name is None:
            error = RequestError("send a valid key: Authorization: Bearer ...", code="unauthorized")
            return await refuse(error, scope, receive, send)
        scope["state"]["facts"]["key"] = name
        if scope["method"] == "POST" and (seconds := self._rate.wait_seconds(name)):
            error = RequestError("this key has used up its rate", code="rate_limited", retry_after=seconds)
            return await refuse(error, scope, receive, send)
        return await self.app(scope, receive, send)

    def _name_of(self, scope: Scope) -> str | None:
        if self._keys.is_open:
            return ANONYMOUS
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        return self._keys.name_of(key.strip()) if scheme.lower() == "bearer" and key.strip() else None


def _parse(content: bytes) -> tuple[dict[bytes, str], list[str]]:
    """Return the names by the hashes of their keys, and what is wrong with which line; never a key."""
    names: dict[bytes, str] = {}
    faults: list[str] = []
    count = 0
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        line = raw.decode("utf-8", "replace").partition("#")[0].strip()
        if not line:
            continue
        count += 1
        name, colon, key = line.partition(":")
        if not colon:
            name, key = f"key-{count}", line
        key = key.strip()
        if len(key) < _MIN_KEY_LENGTH:
            faults.append(f"the key in line {number} has fewer than {_MIN_KEY_LENGTH} characters")
        elif not all("!" <= letter <= "~" for letter in key):
            faults.append(f"the key in line {number} holds a space or is not ASCII: nobody can send it")
        else:
            names[_hash(key)] = name.strip()
    return names, faults


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
