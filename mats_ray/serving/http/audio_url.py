"""Downloads of ``audio_url``: from hosts that the configuration allows, after redirects as well."""

from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from mats_ray.serving.budgets import current_memory
from mats_ray.serving.errors import RequestError

if TYPE_CHECKING:
    import aiohttp

_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)


class AudioURLs:
    """Fetches the audio files at URLs.

    Args:
        allowed_hosts: ``host`` (the scheme's own port) or ``host:port``; none: nothing is fetched.
        max_bytes: Size of the largest file, as it arrives; its Content-Length is not relied on.
        timeout_seconds: Longest time of one download.
    """

    def __init__(self, allowed_hosts: Collection[str], *, max_bytes: int, timeout_seconds: float) -> None:
        self._allowed = frozenset(host.lower() for host in allowed_hosts)
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds

    async def fetch(self, url: str) -> bytes:
        """Download one file.

        Raises:
            RequestError: Its host, or one it redirects to, is not allowed; it is too large or cannot be
                had; or there is no memory for it.
        """
        self._check(url)
        import aiohttp  # not by every ingress: most fetch nothing

        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        try:
            async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
                return await self._follow(session, url)
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            raise _refused(f"the audio_url cannot be fetched: {type(error).__name__}") from None

    async def _follow(self, session: "aiohttp.ClientSession", url: str) -> bytes:
        for _ in range(_MAX_REDIRECTS + 1):
            async with session.get(url, allow_redirects=False) as response:
                if response.status in _REDIRECTS and (location := response.headers.get("Location")):
                    url = urljoin(url, location)
                    self._check(url)
                    continue
                if response.status != 200:
                    raise _refused(f"the audio_url cannot be fetched: its host says {response.status}")
                return await self._read(response)
        raise _refused(f"the audio_url redirects more than {_MAX_REDIRECTS} times")

    async def _read(self, response: "aiohttp.ClientResponse") -> bytes:
        chunks, num_bytes, memory = list[bytes](), 0, current_memory()
        async for chunk in response.content.iter_chunked(2**16):
            memory.acquire(2 * len(chunk))  # once more when they are joined
            chunks.append(chunk)
            num_bytes += len(chunk)
            if num_bytes > self._max_bytes:
                raise RequestError(
                    f"the file at audio_url is larger than {self._max_bytes} bytes",
                    code="too_large",
                    param="messages",
                )
        return b"".join(chunks)

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _refused("the audio_url is not a URL") from None
        host = (parts.hostname or "").lower()
        if parts.scheme not in {"http", "https"} or parts.username is not None:
            raise _refused("an audio_url must be a data:, http: or https: URL without a user name")
        default = {"http": 80, "https": 443}[parts.scheme]
        named = {host, f"{host}:{default}"} if port in {None, default} else {f"{host}:{port}"}
        if not named & self._allowed:
            raise _refused(
                "this server does not fetch from the host of that audio_url; send the sound itself"
            )


def _refused(message: str) -> RequestError:
    return RequestError(message, code="invalid_field", param="messages")
