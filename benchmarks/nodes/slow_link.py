"""A slow wire with losses: two TAP devices and a process between them, for kernels without ``netem``.

    python -m benchmarks.nodes.slow_link PORT NETNS DELAY LOSS

PORT is made here, ``eth0`` in the network namespace NETNS. Every frame is passed on after DELAY seconds; a
share LOSS of them, drawn by chance, never.
"""

import ctypes
import fcntl
import os
import selectors
import struct
import sys
import time
from collections import deque
from pathlib import Path
from random import Random

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI, _CLONE_NEWNET = 0x400454CA, 0x0002, 0x1000, 0x40000000
LONGEST_QUEUE = 2_000
"""Frames that wait in one direction; one more is lost, as with a router."""


def tap(name: str) -> int:
    """Make a TAP device in the present network namespace; returns its file descriptor."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return device


def enter(netns: str) -> None:
    """Change to a network namespace that has a name."""
    with Path(f"/run/netns/{netns}").open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"no way into {netns}")


def relay(one: int, other: int, delay: float, chance: Random, loss: float) -> None:
    """Pass frames on, for ever."""
    waiting: dict[int, deque[tuple[float, bytes]]] = {one: deque(), other: deque()}
    opposite = {one: other, other: one}
    with selectors.DefaultSelector() as ready:
        for device in waiting:
            ready.register(device, selectors.EVENT_READ)
        while True:
            due = min((queue[0][0] for queue in waiting.values() if queue), default=None)
            for key, _ in ready.select(None if due is None else max(0.0, due - time.monotonic())):
                frame = os.read(key.fd, 65_536)
                queue = waiting[opposite[key.fd]]
                if chance.random() >= loss and len(queue) < LONGEST_QUEUE:
                    queue.append((time.monotonic() + delay, frame))
            for device, queue in waiting.items():
                while queue and queue[0][0] <= time.monotonic():
                    _send(device, queue.popleft()[1])


def _send(device: int, frame: bytes) -> None:
    try:
        os.write(device, frame)
    except OSError:  # the device is down, or its queue full: the frame is lost
        return


def main() -> None:
    """Make the devices and pass frames on."""
    port, netns, delay, loss = sys.argv[1:]
    outside = tap(port)
    enter(netns)
    inside = tap("eth0")
    print("ready", flush=True)
    relay(outside, inside, float(delay), Random(0), float(loss))  # noqa: S311


if __name__ == "__main__":
    main()
