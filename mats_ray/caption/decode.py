"""Decode stage of a batch job: listed files to batches of clips, with a row for the error of one that fails.

Imports no torch, so that processes that only decode start fast and stay small.
"""

import functools
import io
import itertools
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mats_ray.caption.rows import PROMPT, Prompt, RowError
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.model import CLAPConfig
from mats_ray.data.audio import AudioBlocks, Limits, open_audio
from mats_ray.data.audio_files import AudioObject, local_path, stat_audio
from mats_ray.data.windows import Cut, cut_blocks
from mats_ray.errors import AudioError, ConfigError, StorageError
from mats_ray.storage import ChangedError, Environment, fetch_into, is_remote

FILE_SCHEMA = pa.schema(
    [("path", pa.string()), ("etag", pa.string()), ("size", pa.int64()), ("prompts", pa.list_(PROMPT))]
)
"""Input: files as listed. ``prompts``: those whose rows the file lacks."""

CLIP_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("etag", pa.string()),
        ("prompts", pa.list_(PROMPT)),
        ("segment", pa.int32()),
        ("is_last", pa.bool_()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        (
            "pool_weight_s",
            pa.float64(),
        ),  # of a window in the mean over its file's windows; null: not pooled
        ("samples", pa.large_binary()),  # float32, mono; null where there is an error
        ("sample_rate", pa.int32()),
        ("error_code", pa.string()),
        ("error", pa.string()),
    ]
)
"""A decoded file or window."""

BATCH_SCHEMA = pa.schema([("batch", pa.large_binary())])
"""A batch as one value (Arrow's stream format), as it goes from stage to stage. Ray Data joins and splits
rows by number, and 32 one-hour clips must not be joined because 32 one-second clips should be."""

BATCH_BYTES = 64 * 2**20
"""A batch ends when its samples reach this size, so memory holds that and one more clip. A file with more
samples is long: it is not held as one clip (see ``DecodeStage.long_cut``)."""

MAX_DECODED_BYTES = 2**40
"""Never reached: ``caption.max_seconds`` is the limit."""

SPOOL_BYTES = 64 * 2**20
"""A larger object is fetched to a temporary file, not to memory."""


@dataclass(frozen=True, kw_only=True)
class AudioOpener:
    """Opens local and remote audio to be decoded block by block.

    Attributes:
        environment: How to reach S3, for other processes.
        limits: Size and length above which a file is an error.
    """

    environment: Environment
    limits: Limits

    def size_error(self, file: AudioObject) -> RowError | None:
        """Return the error of a file that is of no use by its listed size; None: it has to be opened."""
        limit = self.limits.max_bytes
        if not file.etag:  # it could not be reached, and its size is not known
            return None
        if file.size == 0:
            return RowError("empty", f"{file.path} is empty (0 bytes)")
        if file.size > limit:
            return RowError("too_large", f"{file.path} has {file.size} bytes, the limit is {limit}")
        return None

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
                _changed_rather_than_damaged(path, etag),
                open_audio(local_path(path), name=path, limits=self.limits) as audio,
            ):
                yield replace(audio, blocks=_checked_at_end(audio.blocks, path, etag))
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
            buffer = io.BytesIO()
            _fetch(buffer, path, size, etag)
            with open_audio(buffer.getvalue(), name=path, limits=self.limits) as audio:
                yield audio


@dataclass(frozen=True, kw_only=True)
class DecodeStage:
    """Callable for Ray Data: ``FILE_SCHEMA`` to tables of ``BATCH_SCHEMA``, decoding each file once.

    Attributes:
        opener: Opens the files.
        batch_size: Maximum number of clips per batch.
        cut: Windows that files are cut into; None: a file is one clip.
        pooled: Whether the windows have no row each, but one together, from their mean.
        long_cut: Returns the windows of a long file where ``cut`` is None; they are pooled. None: a long file
            is one clip, too.
    """

    opener: AudioOpener
    batch_size: int
    cut: Cut | None = None
    pooled: bool = False
    long_cut: Callable[[], Cut] | None = None

    @classmethod
    def of(cls, settings: CaptionConfig, clap: CLAPConfig, cut: Cut | None) -> "DecodeStage":
        """Make the stage of a job."""
        # decoded audio is never held whole, so its seconds are limited and not its bytes
        limits = Limits(
            max_seconds=settings.max_seconds,
            max_bytes=settings.max_bytes,
            max_decoded_bytes=MAX_DECODED_BYTES,
        )
        return cls(
            opener=AudioOpener(environment=Environment(), limits=limits),
            batch_size=settings.batch_size,
            cut=cut,
            pooled=settings.pool == "mean",
            long_cut=clap_cut(clap) if clap.long_audio == "windows" else None,
        )

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Decode every file, in order."""
        rows: list[dict[str, Any]] = []
        num_bytes = 0
        for row in (row for file in table.to_pylist() for row in self._rows(file)):
            rows.append(row)
            num_bytes += len(row["samples"] or b"")
            if len(rows) == self.batch_size or num_bytes >= BATCH_BYTES:
                yield pack(rows)
                rows, num_bytes = [], 0
        if rows:
            yield pack(rows)

    def _rows(self, file: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield a file's clips; an error ends them and has a row in place of the next one."""
        base = {**dict.fromkeys(CLIP_SCHEMA.names), "is_last": True}
        base |= {name: file[name] for name in ("path", "etag", "prompts")}
        segment, end_s, weight_s = 0, None, None
        try:
            with self.opener.open(file["path"], file["size"], file["etag"]) as audio:
                for clip in self._clips(audio):
                    yield base | clip | {"segment": segment}
                    segment, end_s, weight_s = segment + 1, clip["end_s"], clip.get("pool_weight_s")
        except AudioError as error:
            failed = RowError.of(error)
            yield base | {
                "segment": segment,
                "start_s": end_s,
                "pool_weight_s": None if weight_s is None else 0.0,
                "error_code": failed.code,
                "error": failed.message,
            }

    def _clips(self, audio: AudioBlocks) -> Iterator[dict[str, Any]]:
        if self.cut is not None:
            return _windows(audio, self.cut, pooled=self.pooled)
        return _whole(audio, self.long_cut)


def file_table(files: Iterable[tuple[AudioObject, Sequence[Prompt]]]) -> pa.Table:
    """Make a table of ``FILE_SCHEMA`` of files with their prompts."""
    rows = [
        {
            "path": one.path,
            "etag": one.etag,
            "size": one.size,
            "prompts": [prompt.value for prompt in prompts],
        }
        for one, prompts in files
    ]
    return pa.Table.from_pylist(rows, schema=FILE_SCHEMA)


def window_cut(settings: CaptionConfig, clap: CLAPConfig) -> Cut | None:
    """Return the windows that files are cut into; None: they are not.

    Raises:
        ConfigError: They leave sound out.
    """
    if settings.window is None:
        return None
    seconds = clap_cut(clap)().seconds if settings.window == "clap" else settings.window
    if settings.hop is not None and settings.hop > seconds:
        raise ConfigError(f"caption.hop={settings.hop:g} is more than CLAP's window of {seconds:g} s")
    return Cut(seconds=seconds, hop=settings.hop or seconds)


def clap_cut(clap: CLAPConfig) -> Callable[[], Cut]:
    """Return a function for windows as long as CLAP's own; only calling it imports torch."""
    return functools.partial(_clap_cut, clap)  # pyright: ignore[reportArgumentType]  (it is frozen, so hashable)


@functools.cache
def _clap_cut(clap: CLAPConfig) -> Cut:
    from mats_ray.models.build import clap_window_seconds

    seconds = clap_window_seconds(clap)
    return Cut(seconds=seconds, hop=seconds)


def _windows(audio: AudioBlocks, cut: Cut, *, pooled: bool = False) -> Iterator[dict[str, Any]]:
    for window in cut_blocks(audio, audio.sample_rate, cut):
        # a rest that is too short for a window of its own has no weight, as in CLAP's own mean
        weight_s = min(window.seconds, cut.seconds) if pooled else None
        times = {"start_s": window.start_s, "end_s": window.end_s, "is_last": window.is_last}
        yield times | {"pool_weight_s": weight_s} | _samples(window.samples, audio.sample_rate)


def _whole(audio: AudioBlocks, long_cut: Callable[[], Cut] | None) -> Iterator[dict[str, Any]]:
    """Yield a file as one clip; windows of it as soon as it is known to be long."""
    blocks, num_samples = deque[np.ndarray](), 0
    for block_T in audio:
        blocks.append(block_T)
        num_samples += len(block_T)
        if long_cut is not None and num_samples * 4 > BATCH_BYTES:
            from_start = replace(audio, blocks=itertools.chain(_drained(blocks), audio))
            yield from _windows(from_start, long_cut(), pooled=True)
            return
    samples_T = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    yield {"start_s": 0.0, "end_s": num_samples / audio.sample_rate} | _samples(samples_T, audio.sample_rate)


def _drained(blocks: deque[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield blocks and hold none that was yielded."""
    while blocks:
        yield blocks.popleft()


def _samples(samples_T: np.ndarray, sample_rate: int) -> dict[str, Any]:
    # not a memoryview: pyarrow 26 never frees one that it made a value from
    return {"samples": samples_T.astype(np.float32, copy=False).tobytes(), "sample_rate": sample_rate}


def pack(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Pack rows of ``CLIP_SCHEMA`` into a table of one batch."""
    return pack_table(pa.Table.from_pylist(list(rows), schema=CLIP_SCHEMA))


def pack_table(table: pa.Table) -> pa.Table:
    """Pack a table into a table of one batch, ``BATCH_SCHEMA``."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    batch = sink.getvalue()
    offsets = pa.py_buffer(np.array([0, len(batch)], np.int64))
    values = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, batch])
    return pa.table([values], BATCH_SCHEMA)


def unpack(table: pa.Table) -> Iterator[pa.Table]:
    """Unpack ``BATCH_SCHEMA`` to the tables that were packed, without copying."""
    for batch in table.column("batch"):
        with pa.ipc.open_stream(batch.as_buffer()) as reader:
            yield reader.read_all()


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
def _changed_rather_than_damaged(path: str, etag: str) -> Iterator[None]:
    """Raise ``changed`` instead of the error of a local file that is being written."""
    try:
        yield
    except AudioError:
        _check_unchanged(path, etag)
        raise


def _checked_at_end(blocks: Iterator[np.ndarray], path: str, etag: str) -> Iterator[np.ndarray]:
    yield from blocks
    _check_unchanged(path, etag)


def _check_unchanged(path: str, etag: str) -> None:
    if etag and stat_audio(path).etag not in ("", etag):
        raise AudioError(f"{path} changed while it was read", code="changed")
