"""Messages between the service and a decoding process, as each side sends and receives them.

The parent imports this module but no codec. A request is a head and the file, a response is a head and, for a
decoded file, its samples in blocks.
"""

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from mats_ray.errors import AudioError
from mats_ray.types import AudioClip

_HEAD = struct.Struct("<dQ")
"""Head of a request: longest sound in seconds, most memory of the process in bytes; then the name."""
_MAX_HEAD_BYTES = 2**16
_BLOCK_SAMPLES = 2**18


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """One file to decode."""

    name: str
    max_seconds: float
    memory_bytes: int

    def send(self, connection: Connection, data: bytes) -> None:
        """Send the request and the file's bytes."""
        connection.send_bytes(_HEAD.pack(self.max_seconds, self.memory_bytes) + self.name.encode())
        connection.send_bytes(data)

    @classmethod
    def receive(cls, connection: Connection) -> tuple["DecodeRequest", bytes]:
        """Wait for a request and the file's bytes."""
        head = connection.recv_bytes()
        max_seconds, memory_bytes = _HEAD.unpack_from(head)
        return cls(head[_HEAD.size :].decode(), max_seconds, memory_bytes), connection.recv_bytes()


def send_error(connection: Connection, message: str, code: str) -> None:
    """Respond that a file cannot be decoded."""
    connection.send_bytes(json.dumps({"error": message, "code": code}).encode())


def send_clip(connection: Connection, name: str, sample_rate: int, blocks: Sequence[np.ndarray]) -> None:
    """Respond with a decoded file; blocks: (T,) float32 each."""
    num_samples = sum(len(block_T) for block_T in blocks)
    head = {"sample_rate": sample_rate, "num_samples": num_samples, "name": name}
    connection.send_bytes(json.dumps(head).encode())
    for block_T in blocks:
        for start in range(0, len(block_T), _BLOCK_SAMPLES):
            connection.send_bytes(block_T[start : start + _BLOCK_SAMPLES].data.cast("B"))


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
    head = json.loads(connection.recv_bytes(_MAX_HEAD_BYTES))
    if "error" in head:
        raise AudioError(head["error"], code=head["code"])
    num_bytes, received = 4 * head["num_samples"], 0
    try:
        acquire_memory(num_bytes)
    except Exception:
        while received < num_bytes:
            received += len(connection.recv_bytes())
        raise
    samples_T = np.empty(head["num_samples"], np.float32)
    room = samples_T.data.cast("B")
    while received < num_bytes:
        received += connection.recv_bytes_into(room, received)
    return AudioClip(samples=samples_T, sample_rate=head["sample_rate"], name=head["name"])
