"""Audio files and bytes to mono float32, whole or block by block.

libsndfile reads wav, flac, ogg (Vorbis, Opus), mp3, aiff, au and caf; FFmpeg m4a, mp4, mov, 3gp, webm, mka,
wma, amr and raw AAC, and what libsndfile does not know of its own containers. A file is decoded block by
block, and limits on its bytes, seconds and samples are checked before the first block and at every further
one. A file of which only a part can be decoded is an error, because an answer about its first half would
look like an answer about the whole; files joined to one are decoded one after the other.

Shapes: T samples, H channels.
"""

import io
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import soxr

from mats_ray.data.decoders.containers import split_segments
from mats_ray.data.decoders.ffmpeg import open_ffmpeg
from mats_ray.data.decoders.libsndfile import open_sndfile
from mats_ray.data.decoders.limits import MAX_BYTES, MAX_SECONDS, Limits
from mats_ray.data.decoders.segments import SNDFILE, Segment, View
from mats_ray.errors import AudioDecodeError, AudioError
from mats_ray.types import AudioClip

__all__ = ["MAX_BYTES", "MAX_SECONDS", "AudioBlocks", "Limits", "decode_audio", "open_audio", "read_audio"]


MAX_PEAK = 64.0
"""Samples lie in [-1, 1]; float files may go beyond, but no real mix is 36 dB above full scale."""

_INTEGER_BITS = (16, 24, 32)
_END_T = np.empty(0, np.float32)


@dataclass(frozen=True, eq=False, kw_only=True)
class AudioBlocks:
    """Audio that is decoded as it is iterated over, once: blocks (T,) float32, mono, T at least 1.

    Iterating raises the errors found on the way; only once it has ended is all of the file known to be good.
    """

    sample_rate: int
    """Sample rate of the blocks in Hz."""
    name: str
    blocks: Iterator[np.ndarray]

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.blocks


@contextmanager
def open_audio(
    source: str | Path | bytes | BinaryIO,
    *,
    name: str | None = None,
    sample_rate: int | None = None,
    limits: Limits | None = None,
) -> Iterator[AudioBlocks]:
    """Open a local file, or one held in memory, to decode it block by block.

    Ten hours need no more memory than ten seconds; a caller that has enough stops iterating.

    Args:
        source: A path, the whole file, or a stream that is read into memory.
        name: Name in error messages; by default the path.
        sample_rate: Resample to it (soxr); the file's own by default.
        limits: Largest numbers of bytes, seconds and samples; by default one hour and 2 GiB.

    Raises:
        AudioError: Codes ``not_found`` (absent, a folder), ``read_failed`` (forbidden, a disk error).
        AudioDecodeError: See there.

    Example:
        >>> with open_audio("dog.wav", sample_rate=16000) as audio:  # doctest: +SKIP
        ...     loudest = max(abs(block).max() for block in audio)
    """
    limits = limits or Limits()
    name = name or (str(source) if isinstance(source, str | Path) else "audio")
    with _open_source(source, name, max_bytes=limits.max_bytes) as stream, ExitStack() as stack:
        with _os_errors(name):
            limits.check_size(size := stream.seek(0, os.SEEK_END), name)
            segments = split_segments(stream, size, name, limits)
            first = stack.enter_context(_decoded(stream, next(segments), name, limits))
        blocks, rate = _concatenated(first, segments, stream, name, limits), first.sample_rate
        if sample_rate is not None and sample_rate != rate:
            blocks, rate = _resampled(blocks, name, rate, sample_rate), sample_rate
        yield AudioBlocks(sample_rate=rate, name=name, blocks=blocks)


def read_audio(
    path: str | Path,
    *,
    max_seconds: float = MAX_SECONDS,
    max_bytes: int = MAX_BYTES,
    sample_rate: int | None = None,
) -> AudioClip:
    """Decode a local file: the mean of its channels at its own sample rate, or at a given one.

    Example:
        >>> read_audio("dog.wav").seconds  # doctest: +SKIP
        5.0

    Raises:
        AudioError: Codes ``not_found`` (absent, a folder), ``read_failed`` (forbidden, a disk error).
        AudioDecodeError: See there.
    """
    limits = Limits(max_seconds=max_seconds, max_bytes=max_bytes)
    with open_audio(path, sample_rate=sample_rate, limits=limits) as audio:
        return _whole(audio)


def decode_audio(
    data: bytes | BinaryIO,
    *,
    name: str,
    max_seconds: float = MAX_SECONDS,
    max_bytes: int = MAX_BYTES,
    max_decoded_bytes: int = MAX_BYTES,
    sample_rate: int | None = None,
) -> AudioClip:
    """Decode an audio file held in memory, or in a stream that is read into memory.

    Args:
        data: The whole file.
        name: Name in error messages.
        max_seconds: Longer audio is refused, whatever its header declares.
        max_bytes: More encoded bytes are refused.
        max_decoded_bytes: More bytes of mono float32 samples are refused.
        sample_rate: Resample to it (soxr); the file's own by default.

    Returns:
        The mean of the channels; at least one sample, all of them finite.

    Raises:
        AudioDecodeError: See there.
    """
    limits = Limits(max_seconds=max_seconds, max_bytes=max_bytes, max_decoded_bytes=max_decoded_bytes)
    with open_audio(data, name=name, sample_rate=sample_rate, limits=limits) as audio:
        return _whole(audio)


class _Decoder(Protocol):
    """Interface of the libsndfile and the FFmpeg decoder."""

    @property
    def sample_rate(self) -> int: ...

    def blocks(self) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True, eq=False)
class _DecodedSegment:
    sample_rate: int
    blocks: Iterator[np.ndarray]
    """(T,), checked."""


@contextmanager
def _decoded(stream: BinaryIO, segment: Segment, name: str, limits: Limits) -> Iterator[_DecodedSegment]:
    view = View(stream, segment.pieces)
    with ExitStack() as stack:
        with view.reraising():
            decoder = _opened(stack, view, segment, name, limits)
        yield _DecodedSegment(decoder.sample_rate, _checked(decoder, view, name))


def _opened(stack: ExitStack, view: View, segment: Segment, name: str, limits: Limits) -> _Decoder:
    """Open a segment with the first reader that recognises its content."""
    refusals = []
    for reader in segment.readers:
        try:
            if reader == SNDFILE:
                return stack.enter_context(open_sndfile(view, segment, name, limits))
            return stack.enter_context(open_ffmpeg(view, segment, name, limits, container=reader))
        except AudioDecodeError as error:
            if error.code in {"too_long", "too_large"}:
                raise
            refusals.append(error)
    # the first reader parses the container better, the last one supports more codecs
    raise refusals[-1 if "unsupported" in {error.code for error in refusals} else 0]


def _concatenated(
    first: _DecodedSegment, segments: Iterator[Segment], stream: BinaryIO, name: str, limits: Limits
) -> Iterator[np.ndarray]:
    """Decode all segments, at the rate of the first."""
    num_samples, rate = 0, first.sample_rate
    with _os_errors(name):
        for block_T in itertools.chain(first.blocks, _later_segments(rate, segments, stream, name, limits)):
            num_samples += len(block_T)
            limits.check_length(num_samples, rate, name)
            yield block_T
    if not num_samples:
        raise AudioDecodeError(f"{name} holds no samples", code="empty")


def _later_segments(
    rate: int, segments: Iterator[Segment], stream: BinaryIO, name: str, limits: Limits
) -> Iterator[np.ndarray]:
    for segment in segments:
        with _decoded(stream, segment, name, limits) as sound:
            same = sound.sample_rate == rate
            yield from sound.blocks if same else _resampled(sound.blocks, name, sound.sample_rate, rate)


def _checked(decoder: _Decoder, view: View, name: str) -> Iterator[np.ndarray]:
    """Yield the mean of the channels; no sample is beyond what audio can be."""
    decoded = 0
    with view.reraising():
        for block_TH in decoder.blocks():
            decoded += block_TH.size
            peak = max(float(block_TH.max()), -float(block_TH.min()))
            if not peak <= MAX_PEAK:
                raise _amplitude_error(block_TH, peak, decoded, name)
            yield block_TH[:, 0] if block_TH.shape[1] == 1 else block_TH.mean(axis=1, dtype=np.float32)


def _amplitude_error(block_TH: np.ndarray, peak: float, decoded: int, name: str) -> AudioDecodeError:
    if num_bad := block_TH.size - int(np.isfinite(block_TH).sum()):
        return AudioDecodeError(
            f"{name}: {num_bad} of {decoded} samples are NaN or infinite", code="not_finite"
        )
    reach = f"{name}: samples reach {peak:.4g}, but lie within [-1, 1] (up to {MAX_PEAK:g} is accepted)"
    for bits in _INTEGER_BITS:
        if 2 ** (bits - 3) < peak <= 2 ** (bits - 1):
            hint = f"they look like {bits}-bit integers: divide by {2 ** (bits - 1)}"
            return AudioDecodeError(f"{reach}; {hint}", code="unsupported")
    return AudioDecodeError(reach, code="damaged" if peak > 2**31 else "unsupported")


def _resampled(blocks: Iterator[np.ndarray], name: str, rate: int, wanted: int) -> Iterator[np.ndarray]:
    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
    num_samples = 0
    for block_T in itertools.chain(blocks, [_END_T]):
        resampled_T = stream.resample_chunk(block_T, last=block_T is _END_T)
        num_samples += len(resampled_T)
        if len(resampled_T):
            yield resampled_T
    if not num_samples:
        raise AudioDecodeError(f"{name} is shorter than one sample at {wanted} Hz", code="empty")


def _whole(audio: AudioBlocks) -> AudioClip:
    blocks = list(audio)
    samples_T = blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.float32), *blocks])
    return AudioClip(samples=samples_T, sample_rate=audio.sample_rate, name=audio.name)


@contextmanager
def _open_source(source: str | Path | bytes | BinaryIO, name: str, *, max_bytes: int) -> Iterator[BinaryIO]:
    """Open the source as a stream that can seek; of a stream no more than one byte too many is read.

    Raises:
        AudioError: Codes ``not_found`` (absent, a folder), ``read_failed`` (forbidden, a disk error).
    """
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, str | Path):
        with _regular_file(Path(source), name) as file:
            yield file
    else:
        with _os_errors(name):
            data = source.read(max_bytes + 1)
        yield io.BytesIO(data)


@contextmanager
def _os_errors(name: str) -> Iterator[None]:
    """Raise errors of the operating system as ``AudioError``."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(f"no audio file {name}", code="not_found") from None
    except OSError as error:
        raise AudioError(f"{name} cannot be read: {error.strerror or error}", code="read_failed") from error


def _regular_file(path: Path, name: str) -> BinaryIO:
    with _os_errors(name):
        # looked at before it is opened: opening a pipe would wait for its writer
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise AudioError(f"{name} is {kind}, not an audio file", code="not_found")
        return path.open("rb")
