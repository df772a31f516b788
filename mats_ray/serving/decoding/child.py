"""The process that decodes uploads: ``python -m mats_ray.serving.decoding.child FD``.

A decoder reads what strangers made, in C. Here it can hang, crash or eat memory without taking the service
with it: its memory is limited, and whoever started it kills it when time is up.
"""

import json
import os
import resource
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np

from mats_ray.data.audio import Limits, open_audio
from mats_ray.errors import AudioError
from mats_ray.types import AudioClip

MAX_SAMPLE_RATE = 48_000
"""Of the samples that leave the process: no CLAP listens higher. Lower rates stay: the CLAP resamples them in
its own way."""
_MAX_OWN_RATE = 192_000
"""A sound at its own rate has no more samples than the longest one has at this rate."""
_HEAD = struct.Struct("<dQ")
"""Of a request: the longest sound in seconds, the most memory this process may use in bytes."""
_MAX_HEAD_BYTES = 2**16
_BLOCK_SAMPLES = 2**18


def request(name: str, *, max_seconds: float, memory_bytes: int) -> bytes:
    """Encode the first half of a request; the second is the file."""
    return _HEAD.pack(max_seconds, memory_bytes) + name.encode()


def receive(connection: Connection, take_memory: Callable[[int], None]) -> AudioClip:
    """Read a reply.

    Args:
        connection: To the process.
        take_memory: Called with the bytes of the clip before they are read; what it raises is raised when
            the rest of the reply has been thrown away, so the process can be used again.

    Raises:
        AudioError: That is what the reply holds.
        EOFError, OSError: The process has died.
    """
    reply = json.loads(connection.recv_bytes(_MAX_HEAD_BYTES))
    if "error" in reply:
        raise AudioError(reply["error"], code=reply["code"])
    num_bytes, received = 4 * reply["num_samples"], 0
    try:
        take_memory(num_bytes)
    except Exception:
        while received < num_bytes:
            received += len(connection.recv_bytes())
        raise
    samples_T = np.empty(reply["num_samples"], np.float32)
    room = samples_T.data.cast("B")
    while received < num_bytes:
        received += connection.recv_bytes_into(room, received)
    return AudioClip(samples=samples_T, sample_rate=reply["sample_rate"], name=reply["name"])


def serve(connection: Connection) -> None:
    """Decode what comes until nobody is left to send."""
    with suppress(EOFError, OSError):
        while True:
            _serve_one(connection)


def _serve_one(connection: Connection) -> None:
    reply, blocks = _decode(connection.recv_bytes(), connection.recv_bytes())
    connection.send_bytes(json.dumps(reply).encode())
    for block_T in blocks:
        for start in range(0, len(block_T), _BLOCK_SAMPLES):
            connection.send_bytes(block_T[start : start + _BLOCK_SAMPLES].data.cast("B"))


def _decode(head: bytes, data: bytes) -> tuple[dict[str, object], list[np.ndarray]]:
    max_seconds, memory_bytes = _HEAD.unpack_from(head)
    name = head[_HEAD.size :].decode()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, hard))
    limits = Limits(max_seconds=max_seconds, max_decoded_bytes=int(4 * max_seconds * _MAX_OWN_RATE))
    try:
        sample_rate, blocks = _decoded(data, name, limits)
    except AudioError as error:
        return {"error": str(error), "code": error.code}, []
    except MemoryError:
        return {"error": f"{name} takes too much memory to decode", "code": "too_large"}, []
    num_samples = sum(len(block_T) for block_T in blocks)
    return {"sample_rate": sample_rate, "num_samples": num_samples, "name": name}, blocks


def _decoded(data: bytes, name: str, limits: Limits) -> tuple[int, list[np.ndarray]]:
    with open_audio(data, name=name, limits=limits) as audio:
        if audio.sample_rate <= MAX_SAMPLE_RATE:
            return audio.sample_rate, [np.ascontiguousarray(block_T) for block_T in audio]
    with open_audio(data, name=name, limits=limits, sample_rate=MAX_SAMPLE_RATE) as audio:
        return audio.sample_rate, list(audio)


if __name__ == "__main__":
    os.setsid()  # Ctrl-C in a terminal is the server's business
    serve(Connection(int(sys.argv[1])))
