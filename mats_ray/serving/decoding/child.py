"""The process that decodes uploads: ``python -m mats_ray.serving.decoding.child FD``.

Decoders are C libraries that parse untrusted files. In a process of their own they can hang, crash or exhaust
memory without harm to the service: the memory is limited, and the parent kills the process on a timeout.
"""

import os
import resource
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np

from mats_ray.data.audio import Limits, open_audio
from mats_ray.errors import AudioError
from mats_ray.serving.decoding.messages import DecodeRequest, send_clip, send_error

MAX_SAMPLE_RATE = 48_000
"""Largest rate of the samples sent to the parent; no CLAP needs more. Lower rates stay: the CLAP resamples
them in its own way."""
_MAX_OWN_RATE = 192_000
"""A file has at most as many samples, at its own rate, as the longest allowed one has at this rate."""


def serve(connection: Connection) -> None:
    """Decode file after file until the parent closes the connection."""
    with suppress(EOFError, OSError):
        while True:
            _serve_one(connection)


def _serve_one(connection: Connection) -> None:
    request, data = DecodeRequest.receive(connection)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (request.memory_bytes, hard))
    try:
        sample_rate, blocks = _decode(request, data)
    except AudioError as error:
        return send_error(connection, str(error), error.code)
    except MemoryError:
        return send_error(connection, f"{request.name} takes too much memory to decode", "too_large")
    return send_clip(connection, request.name, sample_rate, blocks)


def _decode(request: DecodeRequest, data: bytes) -> tuple[int, list[np.ndarray]]:
    max_seconds = request.max_seconds
    limits = Limits(max_seconds=max_seconds, max_decoded_bytes=int(4 * max_seconds * _MAX_OWN_RATE))
    with open_audio(data, name=request.name, limits=limits) as audio:
        if audio.sample_rate <= MAX_SAMPLE_RATE:
            return audio.sample_rate, [np.ascontiguousarray(block_T) for block_T in audio]
    with open_audio(data, name=request.name, limits=limits, sample_rate=MAX_SAMPLE_RATE) as audio:
        return audio.sample_rate, list(audio)


if __name__ == "__main__":
    os.setsid()  # only the server handles Ctrl-C in a terminal
    serve(Connection(int(sys.argv[1])))
