"""First stage of a batch job: listed files to decoded clips. A file that fails becomes a row and travels on.

Light on purpose: processes that only decode import no torch.
"""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mats_ray.caption.clips import CLIPS, packed
from mats_ray.data.audio import AudioBlocks, Limits, open_audio
from mats_ray.data.listing import local_path, look_at
from mats_ray.data.windows import Cut, cut_blocks
from mats_ray.errors import AudioError, StorageError
from mats_ray.storage import ChangedError, Environment, fetch_into, is_remote

LISTED = pa.schema(
    [("path", pa.string()), ("etag", pa.string()), ("size", pa.int64()), ("prompts", pa.list_(pa.int32()))]
)
"""``prompts``: indices of the prompts this file still owes an answer to."""

BATCH_BYTES = 64 * 2**20
"""A batch ends when its decoded samples reach this size: memory holds that and one more clip. A file that is
longer by itself is not sent; who would hear it decodes it (see ``caption.clips.LongFile``)."""

SPOOL_BYTES = 64 * 2**20
"""A larger object is fetched to a temporary file, not to memory."""


@dataclass(frozen=True, kw_only=True)
class Opener:
    """Opens local and remote audio to be decoded block by block.

    Attributes:
        environment: What it takes to reach S3, for other processes.
        limits: What is larger or longer becomes an error.
    """

    environment: Environment
    limits: Limits

    @contextmanager
    def open(self, path: str, size: int, etag: str = "") -> Iterator[AudioBlocks]:
        """Open a file of a listed size.

        Args:
            path: As listed.
            size: As listed; an object that is too large is not even fetched.
            etag: As listed: all blocks are of this content, or iterating them ends with an error.

        Raises:
            AudioError: It is gone, changed, cannot be fetched, or is not audio: ``data.audio.open_audio``.
        """
        self.environment.use()
        if not is_remote(path):
            with (
                _of_one_content(path, etag),
                open_audio(local_path(path), name=path, limits=self.limits) as audio,
            ):
                yield replace(audio, blocks=_to_the_end(audio.blocks, path, etag))
        elif size > self.limits.max_bytes:
            limit = self.limits.max_bytes
            raise AudioError(f"{path} has {size} bytes, the limit is {limit}", code="too_large")
        elif size > SPOOL_BYTES:
            with tempfile.NamedTemporaryFile() as file:
                _fetch(file, path, size, etag)
                file.flush()
                with open_audio(file.name, name=path, limits=self.limits) as audio:
                    yield audio
        else:
            held = io.BytesIO()
            _fetch(held, path, size, etag)
            with open_audio(held.getvalue(), name=path, limits=self.limits) as audio:
                yield audio


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Callable for Ray Data: a table of ``LISTED`` rows to tables of packed ``CLIPS``.

    Attributes:
        opener: Opens the files.
        batch_size: Clips per batch at most.
        cut: Windows with a row each; None: each file is one clip.
    """

    opener: Opener
    batch_size: int
    cut: Cut | None = None

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Decode every file, in order."""
        rows: list[dict[str, Any]] = []
        num_bytes = 0
        for row in (row for listed in table.to_pylist() for row in self._rows(listed)):
            rows.append(row)
            num_bytes += len(row["samples"] or b"")
            if len(rows) == self.batch_size or num_bytes >= BATCH_BYTES:
                yield packed(rows)
                rows, num_bytes = [], 0
        if rows:
            yield packed(rows)

    def _rows(self, listed: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield a file's clips; the error that ends them takes the place of the next one."""
        blank = dict.fromkeys(CLIPS.names) | {"is_last": True, **listed}
        segment, heard_s = 0, None
        try:
            with self.opener.open(listed["path"], listed["size"], listed["etag"]) as audio:
                for clip in _whole(audio) if self.cut is None else _windows(audio, self.cut):
                    yield blank | clip | {"segment": segment}
                    segment, heard_s = segment + 1, clip["end_s"]
        except AudioError as error:
            yield blank | {
                "segment": segment,
                "start_s": heard_s,
                "error_code": error.code,
                "error": str(error),
            }


def _windows(audio: AudioBlocks, cut: Cut) -> Iterator[dict[str, Any]]:
    for window in cut_blocks(audio, audio.sample_rate, cut):
        times = {"start_s": window.start_s, "end_s": window.end_s, "is_last": window.is_last}
        yield times | _sound(window.samples, audio.sample_rate)


def _whole(audio: AudioBlocks) -> Iterator[dict[str, Any]]:
    blocks, num_samples = list[np.ndarray](), 0
    for block_T in audio:
        blocks.append(block_T)
        num_samples += len(block_T)
        if num_samples * 4 > BATCH_BYTES:
            yield {"end_s": None}  # without samples: a LongFile
            return
    samples_T = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    yield {"start_s": 0.0, "end_s": num_samples / audio.sample_rate} | _sound(samples_T, audio.sample_rate)


def _sound(samples_T: np.ndarray, sample_rate: int) -> dict[str, Any]:
    # not a memoryview: pyarrow 26 never lets go of one that it made a value from
    return {"samples": samples_T.astype(np.float32, copy=False).tobytes(), "sample_rate": sample_rate}


def _fetch(sink: Any, path: str, size: int, etag: str) -> None:
    try:
        fetch_into(sink, path, size=size, etag=etag)
    except FileNotFoundError:
        raise AudioError(f"{path} is gone since it was listed", code="not_found") from None
    except ChangedError as error:
        raise AudioError(str(error), code="changed") from error
    except StorageError as error:
        raise AudioError(str(error), code="read_failed") from error


@contextmanager
def _of_one_content(path: str, etag: str) -> Iterator[None]:
    """Tell damage in a local file from a file that is being written."""
    try:
        yield
    except AudioError:
        _check_unchanged(path, etag)
        raise


def _to_the_end(blocks: Iterator[np.ndarray], path: str, etag: str) -> Iterator[np.ndarray]:
    yield from blocks
    _check_unchanged(path, etag)


def _check_unchanged(path: str, etag: str) -> None:
    if etag and look_at(path).etag not in ("", etag):
        raise AudioError(f"{path} changed while it was read", code="changed")
