"""The process that decodes uploads: ``python -m mats_ray.serving.decoder FD``.

A decoder reads what strangers made, in C. Here it can hang, crash or eat memory without taking the service
with it: its memory is limited, and whoever started it kills it when time is up.
"""

import json
import os
import resource
import struct
import sys
from multiprocessing.connection import Connection

import numpy as np

from mats_ray.data.audio import decode_audio
from mats_ray.errors import AudioError
from mats_ray.types import AudioClip

_HEAD = struct.Struct("<dQ")
"""Of a request: the longest sound in seconds, the most memory this process may use in bytes."""


def request(name: str, *, max_seconds: float, memory_bytes: int) -> bytes:
    """Encode the first half of a request; the second is the file."""
    return _HEAD.pack(max_seconds, memory_bytes) + name.encode()


def reply_of(head: bytes, samples: bytes) -> AudioClip:
    """Decode a reply.

    Raises:
        AudioError: That is what the reply says.
    """
    said = json.loads(head)
    if "error" in said:
        raise AudioError(said["error"], code=said["code"])
    return AudioClip(
        samples=np.frombuffer(samples, np.float32), sample_rate=said["sample_rate"], name=said["name"]
    )


def serve(connection: Connection) -> None:
    """Decode what comes until nobody is left to send."""
    while True:
        try:
            head, data = connection.recv_bytes(), connection.recv_bytes()
        except (EOFError, OSError):
            return
        said, samples = _decode(head, data)
        connection.send_bytes(json.dumps(said).encode())
        connection.send_bytes(samples)


def _decode(head: bytes, data: bytes) -> tuple[dict[str, object], memoryview]:
    max_seconds, memory_bytes = _HEAD.unpack_from(head)
    name = head[_HEAD.size :].decode()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, hard))
    try:
        clip = decode_audio(data, name=name, max_seconds=max_seconds)
    except AudioError as error:
        return {"error": str(error), "code": error.code}, memoryview(b"")
    except MemoryError:
        return {"error": f"{name} takes too much memory to decode", "code": "too_large"}, memoryview(b"")
    return {"sample_rate": clip.sample_rate, "name": name}, memoryview(clip.samples).cast("B")


if __name__ == "__main__":
    os.setsid()  # Ctrl-C in a terminal is the server's business
    serve(Connection(int(sys.argv[1])))
