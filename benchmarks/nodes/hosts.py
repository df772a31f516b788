"""Hosts on one machine: namespaces for network, processes, files and name, on one bridge. Needs root.

A host has its own address, its own ``/tmp`` and ``/dev/shm`` of limited size, and sees no process of another.
Killing its first process ends all of them at once; its network, and so its address, stays for a restart. The
rest of the disk (repository, Python environment) all hosts share.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PREFIX, BRIDGE, SUBNET = "mn", "mnbr", "10.77.0"
GATEWAY = f"{SUBNET}.1"
_FIRST = (
    "hostname {name}; mount -t tmpfs -o size={tmp} tmpfs /tmp; mount -t tmpfs -o size=300m tmpfs /dev/shm; "
)
_FIRST += "echo ready; while :; do sleep 3600 & wait $!; done"


def execute(*words: object, check: bool = True) -> str:
    """Run a command; returns its stdout.

    Raises:
        CalledProcessError: It failed.
    """
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
    return done.stdout


class Host:
    """A host.

    Args:
        name: At most ten characters.
        number: Last part of its address.
        tmp: Size of its /tmp, the only disk that Ray writes to.
        slow: Seconds of delay and share of frames lost, in each direction; None is a plain wire.
    """

    def __init__(
        self, name: str, number: int, *, tmp: str = "400m", slow: tuple[float, float] | None = None
    ) -> None:
        self.name, self.address = name, f"{SUBNET}.{number}"
        self._net, self._port, self._tmp = f"{PREFIX}-{name}", f"{PREFIX}{number}", tmp
        self._first: subprocess.Popen[str] | None = None
        self._relay: subprocess.Popen[str] | None = None
        execute("ip", "netns", "add", self._net)
        if slow is None:
            wire = ("type", "veth", "peer", "name", "eth0", "netns", self._net)
            execute("ip", "link", "add", self._port, *wire)
        else:
            self._start_relay(*slow)
        execute("ip", "link", "set", self._port, "master", BRIDGE, "up")
        for words in (
            ("addr", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", GATEWAY),
        ):
            execute("ip", "-n", self._net, *words)
        self.boot()

    def _start_relay(self, delay: float, loss: float) -> None:
        line = [
            sys.executable,
            "-m",
            "benchmarks.nodes.slow_link",
            self._port,
            self._net,
            str(delay),
            str(loss),
        ]
        self._relay = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._relay.stdout is not None
        assert self._relay.stdout.readline() == "ready\n"

    def boot(self) -> None:
        """Start its first process, with an empty /tmp."""
        script = _FIRST.format(name=self.name, tmp=self._tmp)
        own = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--mount-proc")
        self._first = subprocess.Popen(
            ["ip", "netns", "exec", self._net, *own, "bash", "-c", script],  # noqa: S607
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._first.stdout is not None
        assert self._first.stdout.readline() == "ready\n"

    @property
    def _pid(self) -> int:
        """Process id, as seen from outside, of the first process."""
        assert self._first is not None
        # `ip netns exec` becomes `unshare`, whose one child is the first process of the host
        return int(Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text().split()[0])

    def inside(self, *words: object) -> list[str]:
        """Return the command line that runs a command on the host, in the repository's root."""
        enter = ["nsenter", "-t", str(self._pid), "-n", "-p", "-m", "-u", "-i"]
        # who enters a namespace of files is at its root
        return [*enter, "env", "-C", str(ROOT), *map(str, words)]

    def start(
        self, words: Sequence[object], environment: dict[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a command on the host."""
        with log.open("ab") as output:
            return subprocess.Popen(
                self.inside(*words), env=os.environ | environment, stdout=output, stderr=output
            )

    def kill(self) -> None:
        """End every process at once, as if power failed: its link is cut first, so no peer is told."""
        self.cut()
        os.kill(self._pid, 9)
        assert self._first is not None
        self._first.wait(30)
        self._first = None

    def cut(self) -> None:
        """Take its link down."""
        execute("ip", "link", "set", self._port, "down")

    def mend(self) -> None:
        """Take its link up."""
        execute("ip", "link", "set", self._port, "up")

    def remove(self) -> None:
        """End it and take its network away."""
        with contextlib.suppress(Exception):
            if self._first is not None:
                self.kill()
        if self._relay is not None:
            self._relay.kill()
            self._relay.wait(30)
        execute("ip", "link", "del", self._port, check=False)
        execute("ip", "netns", "del", self._net, check=False)


class Network:
    """The bridge and its hosts; this process is at ``GATEWAY``."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []

    def add(self, name: str, number: int, **settings: object) -> Host:
        """Add a host."""
        self.hosts.append(Host(name, number, **settings))  # pyright: ignore[reportArgumentType]
        return self.hosts[-1]


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Make the bridge; in the end nothing of it and of its hosts is left.

    Raises:
        CalledProcessError: Not root, or another run is under way: its bridge is there.
        RuntimeError: The checkout is below /tmp, which each host has for itself.
    """
    if ROOT.is_relative_to("/tmp"):  # noqa: S108  (the name that hosts' own folder has)
        raise RuntimeError(f"hosts do not see this checkout, {ROOT}: run one that is not below /tmp")
    execute("ip", "link", "add", BRIDGE, "type", "bridge")
    made = Network()
    try:
        execute("ip", "addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        execute("ip", "link", "set", BRIDGE, "up")
        yield made
    finally:
        for host in made.hosts:
            host.remove()
        execute("ip", "link", "del", BRIDGE, check=False)


def main() -> None:
    """Try it: two hosts, an answered ping, a slow one, a cut one."""
    with network() as net:
        near, slow = net.add("near", 11), net.add("slow", 12, slow=(0.1, 0.05))
        time.sleep(1)
        for address in (near.address, slow.address):
            print(execute("ping", "-c", "20", "-i", "0.2", "-q", address, check=False))
        print(
            execute(*near.inside("bash", "-c", "hostname; ls /proc | grep -c '^[0-9]'; df -h /tmp | tail -1"))
        )
        near.cut()
        print(execute("ping", "-c", "2", "-W", "1", "-q", near.address, check=False))


if __name__ == "__main__":
    main()
