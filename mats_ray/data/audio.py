"""Audio files and bytes to mono float32, whole or block by block.

libsndfile reads wav, flac, ogg (Vorbis, Opus), mp3, aiff, au and caf; FFmpeg m4a, mp4, mov, 3gp, webm, mka,
wma, amr and raw AAC. A file is decoded block by block, and limits on its bytes, seconds and samples are
checked before the first block and at every further one. A file of which only a part can be decoded is an
error, because an answer about its first half would look like an answer about the whole.

Shapes: T samples.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import soxr

from mats_ray.data.decoders.containers import container_of
from mats_ray.data.decoders.ffmpeg import open_ffmpeg
from mats_ray.data.decoders.libsndfile import open_sndfile
from mats_ray.data.decoders.limits import MAX_BYTES, MAX_SECONDS, Limits
from mats_ray.data.decoders.sources import opened, readable
from mats_ray.errors import AudioDecodeError
from mats_ray.types import AudioClip

__all__ = ["MAX_BYTES", "MAX_SECONDS", "AudioBlocks", "Limits", "decode_audio", "open_audio", "read_audio"]


_END_T = np.empty(0, np.float32)


@dataclass(frozen=True, eq=False, kw_only=True)
class AudioBlocks:
    """Audio that is decoded as it is iterated over, once: blocks (T,) float32, mono, T at least 1.

    Iterating raises what is found wrong on the way; only its end says that all of the file is good.
    """

    sample_rate: int
    """Of the blocks, in Hz."""
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

    Ten hours take no more memory than ten seconds; who has heard enough stops iterating.

    Args:
        source: A path, the whole file, or a stream that is read into memory.
        name: What error messages call it; a path calls itself so.
        sample_rate: Resample to it (soxr); the file's own by default.
        limits: Of bytes, seconds and samples; by default one hour and 2 GiB.

    Raises:
        AudioError: Codes ``not_found`` (absent, a folder), ``read_failed`` (forbidden, a disk error).
        AudioDecodeError: See there.

    Example:
        >>> with open_audio("dog.wav", sample_rate=16000) as audio:  # doctest: +SKIP
        ...     loudest = max(abs(block).max() for block in audio)
    """
    limits = limits or Limits()
    name = name or (str(source) if isinstance(source, str | Path) else "audio")
    with opened(source, name, max_bytes=limits.max_bytes) as stream:
        limits.check_size(stream.seek(0, os.SEEK_END), name)
        with _decoder(stream, name, limits) as decoder:
            blocks, rate = _checked(decoder, name, limits), decoder.sample_rate
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
    """Decode a local file: the mean of its channels at its own sample rate, or at the one asked for.

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
        name: What error messages call it.
        max_seconds: Longer audio is refused, whatever its header says.
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
    """What libsndfile's and FFmpeg's side have in common."""

    @property
    def sample_rate(self) -> int: ...

    def blocks(self) -> Iterator[np.ndarray]: ...


@contextmanager
def _decoder(stream: BinaryIO, name: str, limits: Limits) -> Iterator[_Decoder]:
    with ExitStack() as stack:
        with readable(name):
            container = container_of(stream)
            stream.seek(0)
            if container is None:
                decoder = stack.enter_context(open_sndfile(stream, name, limits))
            else:
                decoder = stack.enter_context(open_ffmpeg(stream, name, limits, container=container))
        yield decoder


def _checked(decoder: _Decoder, name: str, limits: Limits) -> Iterator[np.ndarray]:
    decoded = 0
    with readable(name):
        for block_T in decoder.blocks():
            decoded += len(block_T)
            limits.check_length(decoded, decoder.sample_rate, name)
            if num_bad := len(block_T) - int(np.isfinite(block_T).sum()):
                raise AudioDecodeError(
                    f"{name}: {num_bad} of {decoded} samples are NaN or infinite", code="not_finite"
                )
            yield block_T
    if not decoded:
        raise AudioDecodeError(f"{name} holds no samples", code="empty")


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
