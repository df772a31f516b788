"""Hostile requests: made from openapi.json by schemathesis, and a corpus of bad audio."""

import base64
import contextlib
import gzip
import http.client
import io
import json
import random
import socket
import struct
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import numpy as np
import requests
import schemathesis
import soundfile
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode

CAPTIONS, EMBEDDINGS, CHAT = "/v1/audio/captions", "/v1/audio/embeddings", "/v1/chat/completions"


@dataclass
class Result:
    """How an attack went."""

    statuses: Counter[int] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    slowest: float = 0.0
    seconds: float = 0.0
    memory_mb: list[float] = field(default_factory=list)
    """Memory of the server: before, between the kinds of attack, after."""
    ingress_mb: float = 0.0
    """The most that the ingress held for itself alone."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def number(self) -> int:
        return sum(self.statuses.values())

    def counts(self) -> str:
        return ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))

    def note(self, status: int, seconds: float, what: str) -> None:
        with self._lock:
            self.statuses[status] += 1
            self.slowest = max(self.slowest, seconds)
            if status == 0 or (status >= 500 and status != 503):
                self.bad.append(f"{status} {what[:200]}")


def attack(url: str, number: int, memory_mb: Callable[[], float], ingress_mb: Callable[[], float]) -> Result:
    """Send hostile requests: two thirds made from the description, then odd ones, much work, bad audio."""
    result, started = Result(), time.monotonic()
    with sampled_memory(ingress_mb, result):
        result.memory_mb.append(memory_mb())
        by_description(url, 2 * number // 3, result)
        result.memory_mb.append(memory_mb())
        by_odd_requests(url, number // 6, result)
        by_work(url, number // 30, result)
        by_corpus(url, number - result.number, result)
        result.memory_mb.append(memory_mb())
    result.seconds = time.monotonic() - started
    return result


INGRESS_MB = 1_540
"""Limit on the memory of an ingress that docs/serving.md names for the default settings."""


@contextmanager
def sampled_memory(ingress_mb: Callable[[], float], result: Result) -> Iterator[None]:
    """Sample the memory of the ingress twenty times a second."""
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(0.05):
            result.ingress_mb = max(result.ingress_mb, ingress_mb())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def by_description(url: str, number: int, result: Result) -> None:
    """Valid and invalid requests to every route, four routes at a time."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [one.ok() for one in schema.get_all_operations()]
    share = number // (2 * len(operations)) + 1
    with ThreadPoolExecutor(4) as threads:
        for operation in operations:
            for mode in GenerationMode:
                threads.submit(_explore, operation.as_strategy(generation_mode=mode), share, url, result)


def _explore(strategy: object, share: int, url: str, result: Result) -> None:
    @seed(0)
    @settings(
        max_examples=share,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def explore(case: schemathesis.Case) -> None:
        started, status = time.perf_counter(), 0
        try:
            status = case.call(base_url=url, session=session, timeout=60).status_code
        except Exception as error:  # noqa: BLE001  what no client can send is no request
            if "Invalid" in type(error).__name__ or isinstance(error, (UnicodeError, ValueError)):
                return
            result.note(0, time.perf_counter() - started, f"{type(error).__name__} {error}")
            return
        result.note(status, time.perf_counter() - started, f"{case.method} {case.path}")

    session = requests.Session()
    try:
        explore()
    except Exception as error:  # noqa: BLE001  a route for which nothing (invalid) can be made
        if "Unsatisfiable" not in type(error).__name__:
            print(f"  schemathesis: {type(error).__name__}: {str(error)[:120]} {causes_of(error)}")


def causes_of(error: BaseException) -> str:
    """The errors within an error."""
    inner = [*getattr(error, "exceptions", ()), *filter(None, [error.__cause__])]
    return "; ".join(f"{type(one).__name__}: {str(one)[:200]} {causes_of(one)}" for one in inner)


def by_odd_requests(url: str, number: int, result: Result) -> None:
    """Paths that no client would send, and bodies that no client would write, eight at a time."""
    paths, bodies = list(odd_paths()), [*odd_chats(), *odd_forms()]

    def one(index: int) -> None:
        path, body, content_type = CHAT, b"", "text/plain"
        if index % 2:
            path = paths[index // 2 % len(paths)]
        else:
            path, body, content_type = bodies[index // 2 % len(bodies)]
        started, status = time.perf_counter(), 0
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = exchange(url, path, body, content_type)
        result.note(status, time.perf_counter() - started, f"{path} {body[-80:]!r}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(number)))


def exchange(url: str, path: str, body: bytes, content_type: str) -> int:
    """Send one request as raw bytes; a client would put its path into order."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60) as connection:
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        return int(connection.makefile("rb").readline().split()[1])


def odd_paths() -> Iterator[str]:
    """Known routes behind prefixes, encoded, doubled, climbing and misspelt."""
    for route in ("/v1/models", "/metrics", "/health", "/", "/docs", CHAT):
        last = route.rpartition("/")[2]
        yield from (
            f"/mats{route}",
            f"/{route}",
            f"{route}/",
            f"/x/..{route}",
            f"/./{route}",
            f"/page/..{route}",
        )
        yield route.replace(last, "".join(f"%{ord(letter):02x}" for letter in last)) if last else "/%2f"
        yield from (f"{route}%00", f"{route}%0a", f"{route}%ed%a0%bd", f"{route};x=1", route.upper())
    yield f"/page/..%2f..%2f{'x' * 5000}"


def odd_chats() -> Iterator[tuple[str, bytes, str]]:
    """Numbers without end, halves of characters, fields that are not there: as JSON text."""
    noise = encoded(np.random.default_rng(0).uniform(-1, 1, 800), 8000, "wav")
    sound = {
        "type": "input_audio",
        "input_audio": {"data": base64.b64encode(noise).decode(), "format": "wav"},
    }
    head = json.dumps({"messages": [{"role": "user", "content": [sound]}]})[:-1]
    numbers = ("NaN", "Infinity", "-1", "0", "1e-320", "1e999", "1e308", "9" * 400, "9" * 5000, "true", '"1"')
    for number in numbers:
        for key in ("temperature", "top_p", "seed", "max_tokens", "n", "frobnicate", "stop", "user"):
            yield CHAT, f'{head}, "{key}": {number}}}'.encode(), "application/json"
        for key in ("window", "profile", "frobnicate"):
            yield CHAT, f'{head}, "mats": {{"{key}": {number}}}}}'.encode(), "application/json"
        for key in ("num_neighbours", "temperature", "mix"):
            santa = f'{{"santa": {{"{key}": {number}}}}}'
            yield CHAT, f'{head}, "mats": {santa}}}'.encode(), "application/json"
    for key in ("model", "user", "stop", "\\ud83d", "metadata", "n"):
        yield CHAT, f'{head}, "{key}": "\\ud83d"}}'.encode(), "application/json"
    for text in ("\\ud83d", "\\udc00\\ud83d", "\\u0000"):
        content = f'[{json.dumps(sound)}, {{"type": "text", "text": "{text}"}}]'
        yield CHAT, f'{{"messages": [{{"role": "user", "content": {content}}}]}}'.encode(), "application/json"
    for body in ("[" * 2000, '{"messages":' * 500, "[" + "{}," * 200_000, "null", '"x"'):
        yield CHAT, body.encode(), "application/json"


def odd_forms() -> Iterator[tuple[str, bytes, str]]:
    """Fields that are not there, not UTF-8, twice, or numbers without end."""
    noise = encoded(np.random.default_rng(0).uniform(-1, 1, 800), 8000, "wav")
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + noise
    for name in (b"window", b"profile", b"frobnicate", b"file", b"\xff"):
        for value in (b"NaN", b"1e999", b"-1", b"9" * 5000, b"\xff", b"\xed\xa0\xbd", b""):
            part = b'\r\n--b\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value
            for charset in ("", "; charset=utf-7", "; charset=undefined"):
                yield CAPTIONS, start + part + b"\r\n--b--\r\n", f"multipart/form-data; boundary=b{charset}"


def by_corpus(url: str, number: int, result: Result) -> None:
    """Bad audio as forms and as chat, eight at a time."""
    files = list(corpus())

    def one(index: int) -> None:
        name, data = files[index % len(files)]
        data = spoiled(data, random.Random(index)) if index >= len(files) else data  # noqa: S311
        started, status = time.perf_counter(), 0
        try:
            if index % 2:
                status = client.post(url + CAPTIONS, files={"file": (name, data)}).status_code
            else:
                sound = {"data": base64.b64encode(data).decode() or "=", "format": "wav"}
                content = [{"type": "input_audio", "input_audio": sound}]
                body = {"messages": [{"role": "user", "content": content}]}
                status = client.post(url + CHAT, json=body).status_code
        except httpx.HTTPError as error:
            name = f"{name} {type(error).__name__}"
        result.note(status, time.perf_counter() - started, name)

    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(number)))


def by_work(url: str, number: int, result: Result) -> None:
    """Requests that mean much work or memory, 24 at a time; some clients are slow, some leave."""
    requests_ = list(heavy())
    clients = (wait_for_reply, wait_for_reply, wait_for_reply, disconnect, slow)

    def one(index: int) -> None:
        name, path, content_type, body = requests_[index % len(requests_)]
        send = clients[index % len(clients)]
        started = time.perf_counter()
        try:
            status = send(url, path, content_type, body)
        except OSError as error:
            status, name = 0, f"{name} {type(error).__name__}"
        result.note(status, time.perf_counter() - started, f"{name}, {send.__name__} client")

    with ThreadPoolExecutor(24) as threads:
        list(threads.map(one, range(number)))


def heavy() -> Iterator[tuple[str, str, str, bytes]]:
    """Name, path, content type and body of requests that mean much work or memory."""
    noise = np.random.default_rng(0).uniform(-1, 1, 2 * 655_350)
    sounds = {
        "655 kHz": encoded(np.zeros(60 * 655_350), 655_350, "flac"),
        "655 kHz, short": encoded(np.zeros(10 * 655_350), 655_350, "flac"),
        "768 kHz": encoded(noise, 768_000, "wav"),
        "60 s": encoded(np.zeros(60 * 48_000), 48_000, "flac"),
    }
    for name, sound in sounds.items():
        for window in (None, "1", "1.5", "10"):
            fields = {} if window is None else {"window": window}
            for path in (CAPTIONS, EMBEDDINGS):
                request = httpx.Request(
                    "POST", "http://any" + path, files={"file": ("a", sound)}, data=fields
                )
                yield f"{name}, window {window}", path, request.headers["content-type"], request.read()
    long = base64.b64encode(bytes(2_200_000)).decode()
    for name, data in (("base64", long), ("an emoji among base64", long[:-4] + "\U0001f600")):
        content = [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]
        body = {"messages": [{"role": "user", "content": content}]}
        for as_ascii in (True, False):
            yield name, CHAT, "application/json", json.dumps(body, ensure_ascii=as_ascii).encode()
    yield "many values", CHAT, "application/json", b"[" + b"[]," * 900_000 + b"[]]"


def wait_for_reply(url: str, path: str, content_type: str, body: bytes) -> int:
    """Send a request and wait for its answer."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=90)
    with closing(connection):
        connection.request("POST", path, body, {"Content-Type": content_type})
        return connection.getresponse().status


def disconnect(url: str, path: str, content_type: str, body: bytes) -> int:
    """Send a request and close the connection."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=90)
    with closing(connection):
        connection.request("POST", path, body, {"Content-Type": content_type})
    return 499


def slow(url: str, path: str, content_type: str, body: bytes) -> int:
    """Send a request in pieces, a quarter of a second apart."""

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), len(body) // 8 + 1):
            yield body[start : start + len(body) // 8 + 1]
            time.sleep(0.25)

    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=90)
    with closing(connection):
        try:
            connection.request(
                "POST", path, pieces(), {"Content-Type": content_type, "Content-Length": str(len(body))}
            )
        except (BrokenPipeError, ConnectionResetError):  # refused before its end
            return 499
        return connection.getresponse().status


def corpus() -> Iterator[tuple[str, bytes]]:
    """Files that are broken, huge, lying or no audio."""
    noise = np.random.default_rng(0).uniform(-1, 1, 8000)
    good = {kind: encoded(noise, 8000, kind) for kind in ("wav", "flac", "ogg", "mp3")}
    for kind, data in good.items():
        yield f"good.{kind}", data
        yield f"cut.{kind}", data[: len(data) // 2]
        yield f"head.{kind}", data[:40]
    wav = bytearray(good["wav"])
    for at, value, name in (
        (24, 2**32 - 1, "rate"),
        (40, 2**32 - 1, "length"),
        (4, 0, "riff"),
        (16, 2**31, "fmt"),
    ):
        forged = bytearray(wav)
        forged[at : at + 4] = struct.pack("<I", value)
        yield f"forged-{name}.wav", bytes(forged)
    channels = bytearray(wav)
    channels[22:24] = struct.pack("<H", 65535)
    yield "channels.wav", bytes(channels)
    yield "bomb.flac", encoded(np.zeros(8000 * 3000), 8000, "flac")  # 3,000 s of silence in a few kilobytes
    yield "bomb.ogg", encoded(np.zeros(8000 * 1000), 8000, "ogg")
    yield "nan.wav", encoded(np.full(800, np.nan), 8000, "wav", subtype="FLOAT")
    yield "huge.wav", encoded(np.zeros(1_000_000), 48000, "wav")
    yield "empty.wav", b""
    yield "text.mp3", b"ID3" + b"\xff" * 3000
    yield "list.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://169.254.169.254/latest\n"
    yield "list.ffconcat", b"ffconcat version 1.0\nfile /etc/passwd\n"
    yield "zeros.gz", gzip.compress(bytes(10**7))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.wav", bytes(wav))
    yield "archive.zip", archive.getvalue()
    yield "page.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    yield "deep.json", json.dumps("[" * 5000).encode()


def encoded(samples: np.ndarray, rate: int, kind: str, **more: str) -> bytes:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, format=kind, **more) as sound:
        for start in range(0, max(1, len(samples)), 2**16):  # libsndfile overflows its stack on long Vorbis
            sound.write(samples[start : start + 2**16].astype(np.float32))
    return file.getvalue()


def spoiled(data: bytes, chance: random.Random) -> bytes:
    """Change a few bytes, cut, or repeat a part."""
    spoilt = bytearray(data[:200_000])
    for _ in range(chance.randint(0, 12)):
        if spoilt:
            spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
    if chance.random() < 0.3:
        del spoilt[chance.randint(0, len(spoilt)) :]
    return bytes(spoilt)
