"""A pool of decoding processes, kept warm, killed when a file is too slow or its caller is cancelled."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, Pipe

from mats_ray.errors import AudioError
from mats_ray.serving.budgets import current_memory
from mats_ray.serving.decoding.messages import DecodeRequest, receive_clip
from mats_ray.serving.errors import RequestError
from mats_ray.types import AudioClip

logger = logging.getLogger(__name__)

_CHILD = "mats_ray.serving.decoding.child"
"""The process's module; not imported here, for the sake of its codecs."""
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONHOME")
"""Variables that a decoding process inherits: no key, token or credential of its parent."""


class DecoderProcess:
    """One process, one file at a time. Blocking: call it from threads."""

    def __init__(self) -> None:
        ours, theirs = Pipe()
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._connection: Connection = ours
        self._process = subprocess.Popen(  # noqa: S603  our own module in our own interpreter
            [sys.executable, "-m", _CHILD, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # the C libraries log every broken file
            env=environment,
        )
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can decode a file."""
        return self._process.poll() is None

    def decode(
        self, request: DecodeRequest, data: bytes, acquire_memory: Callable[[int], None] = lambda _: None
    ) -> AudioClip:
        """Decode one file.

        Raises:
            AudioError: It cannot be decoded.
            EOFError, OSError: The process has died.
            RequestError: ``acquire_memory`` refuses the clip.
        """
        request.send(self._connection, data)
        return receive_clip(self._connection, acquire_memory)

    def kill(self) -> None:
        """End it at once; a ``decode`` in progress raises."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it and close the connection."""
        self.kill()
        self._connection.close()


class DecoderPool:
    """Decodes with limits on time and memory.

    Args:
        processes: Number of files decoded at a time.
        max_seconds: Longest sound.
        timeout_seconds: Longest time for a file; after it the process is replaced.
        memory_bytes: Address space of a process.
        start: Starts a process.
    """

    def __init__(
        self,
        processes: int,
        *,
        max_seconds: float,
        timeout_seconds: float,
        memory_bytes: int,
        start: Callable[[], DecoderProcess] = DecoderProcess,
    ) -> None:
        self._max_seconds, self._timeout, self._memory_bytes = max_seconds, timeout_seconds, memory_bytes
        self._start = start
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decode")
        self._free = asyncio.Queue[DecoderProcess | None]()
        for _ in range(processes):
            self._free.put_nowait(None)
        self._running: set[DecoderProcess] = set()

    async def decode(self, data: bytes, *, name: str) -> AudioClip:
        """Decode one file, at a sample rate of at most 48 kHz.

        Raises:
            AudioError: Those of ``open_audio``, and ``decode_failed`` for a timeout or a crash.
            RequestError: There is no room in memory for the samples.
        """
        if not data:
            raise AudioError(f"{name} is empty (0 bytes)", code="empty")
        process = await self._free.get()
        try:
            if process is None or not process.is_alive:
                process = self._discard(process)
                process = await asyncio.to_thread(self._start)
                self._running.add(process)
            request = DecodeRequest(name, self._max_seconds, self._memory_bytes)
            work = asyncio.get_running_loop().run_in_executor(
                self._threads, process.decode, request, data, current_memory().acquire
            )
            async with asyncio.timeout(self._timeout):
                return await work
        except (AudioError, RequestError):
            raise
        except TimeoutError:
            process = self._discard(process)
            message = f"{name} takes more than {self._timeout:g} s to decode"
            raise AudioError(message, code="decode_failed") from None
        except (EOFError, OSError):
            process = self._discard(process)
            logger.warning("a decoding process died over an upload")
            raise AudioError(f"{name} cannot be decoded: it ends the decoder", code="decode_failed") from None
        except BaseException:  # the caller was cancelled
            process = self._discard(process)
            raise
        finally:
            self._free.put_nowait(process)

    def close(self) -> None:
        """End all processes."""
        for process in list(self._running):
            self._discard(process)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _discard(self, process: DecoderProcess | None) -> None:
        if process is not None:
            self._running.discard(process)
            process.kill()
