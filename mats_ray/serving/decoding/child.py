"""The process that decodes uploads: ``python -m mats_ray.serving.decoding.child FD``.

Decoders are C libraries that parse untrusted files. In a process of their own they can hang, crash or exhaust
memory without harm to the service: the memory is limited, and the parent kills the process on a timeout.
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
"""Largest rate of the samples sent to the parent; no CLAP needs more. Lower rates stay: the CLAP resamples
them in its own way."""
_MAX_OWN_RATE = 192_000
"""A file has at most as many samples, at its own rate, as the longest allowed one has at this rate."""
_HEAD = struct.Struct("<dQ")
"""Head of a request: longest sound in seconds, most memory of this process in bytes."""
_MAX_HEAD_BYTES = 2**16
_BLOCK_SAMPLES = 2**18


def encode_request(name: str, *, max_seconds: float, memory_bytes: int) -> bytes:
    """Encode the first message of a request; the second is the file."""
    return _HEAD.pack(max_seconds, memory_bytes) + name.encode()


def receive_clip(connection: Connection, acquire_memory: Callable[[int], None]) -> AudioClip:
    """Read a response.

    Args:
        connection: To the process.
        acquire_memory: Called with the bytes of the clip before they are read; its error is raised after the
            rest of the response has been discarded, so that the process can be used again.

    Raises:
        AudioError: The file cannot be decoded.
        EOFError, OSError: The process has died.
    """
    response = json.loads(connection.recv_bytes(_MAX_HEAD_BYTES))
    if "error" in response:
        raise AudioError(response["error"], code=response["code"])
    num_bytes, received = 4 * response["num_samples"], 0
    try:
        acquire_memory(num_bytes)
    except Exception:
        while received < num_bytes:
            received += len(connection.recv_bytes())
        raise
    samples_T = np.empty(response["num_samples"], np.float32)
    room = samples_T.data.cast("B")
    while received < num_bytes:
        received += connection.recv_bytes_into(room, received)
    return AudioClip(samples=samples_T, sample_rate=response["sample_rate"], name=response["name"])


def serve(connection: Connection) -> None:
    """Decode file after file until the parent closes the connection."""
    with suppress(EOFError, OSError):
        while True:
            _serve_one(connection)


def _serve_one(connection: Connection) -> None:
    response, blocks = _decode(connection.recv_bytes(), connection.recv_bytes())
    connection.send_bytes(json.dumps(response).encode())
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
    os.setsid()  # only the server handles Ctrl-C in a terminal
    serve(Connection(int(sys.argv[1])))
