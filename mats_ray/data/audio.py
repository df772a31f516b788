"""Audio files and bytes to mono float32, by libsndfile: wav, flac, ogg (Vorbis, Opus), mp3, aiff, au, caf.

Nothing a file says about itself is believed: it is decoded block by block, and limits on its bytes, seconds
and samples are checked before the first block and at every further one. A file of which only a part can be
decoded is an error, because an answer about its first half would look like an answer about the whole.

Shapes: T samples, H channels.
"""

import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from mats_ray.data.truncation import UNKNOWN_FRAMES, is_cut_off
from mats_ray.errors import AudioError
from mats_ray.types import AudioClip

MAX_SECONDS = 3600.0
MAX_BYTES = 2**31
"""Of a file as it is stored; the decoded samples of one clip take no more either."""
MAX_CHANNELS = 64
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
BLOCK_VALUES = 2**20
"""Samples times channels decoded at a time: 4 MB."""

# libsndfile's error numbers of data that no reader took for its own (7: what its MP3 reader says of them)
_NOT_AUDIO = {1, 4, 7}
# asked for once more when all announced frames are read
_LAST_LOOK_FRAMES = 4096


def read_audio(
    path: str | Path, *, max_seconds: float = MAX_SECONDS, max_bytes: int = MAX_BYTES
) -> AudioClip:
    """Decode a local file: the mean of its channels at its own sample rate.

    Example:
        >>> read_audio("dog.wav").seconds  # doctest: +SKIP
        5.0

    Raises:
        AudioError: Codes ``not_found`` (absent, a folder), ``read_failed`` (forbidden, a disk error) and
            those of ``decode_audio``.
    """
    name = str(path)
    try:
        # looked at before it is opened: opening a pipe would wait for its writer
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise AudioError(f"{name} is {kind}, not an audio file", code="not_found")
        with Path(path).open("rb", buffering=0) as file:
            return _decode(file, name=name, max_seconds=max_seconds, max_bytes=max_bytes)
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(f"no audio file {name}", code="not_found") from None
    except OSError as error:
        raise AudioError(f"{name} cannot be read: {error.strerror or error}", code="read_failed") from error


def decode_audio(
    data: bytes | BinaryIO, *, name: str, max_seconds: float = MAX_SECONDS, max_bytes: int = MAX_BYTES
) -> AudioClip:
    """Decode an audio file held in memory, or in a stream that is read into memory.

    Args:
        data: The whole file.
        name: What error messages call it.
        max_seconds: Longer audio is refused, whatever its header says.
        max_bytes: More encoded bytes are refused.

    Returns:
        The mean of the channels at the file's own sample rate; at least one sample, all of them finite.

    Raises:
        AudioError: Codes ``empty`` (no bytes, no samples), ``unsupported_format`` (no audio, or with absurd
            numbers of channels or sample rate), ``decode_failed`` (damaged or cut off), ``not_finite`` (NaN
            or infinite samples), ``too_long`` (seconds), ``too_large`` (bytes).
    """
    held = data if isinstance(data, bytes) else data.read(max_bytes + 1)
    return _decode(_Bytes(held), name=name, max_seconds=max_seconds, max_bytes=max_bytes)


class _Bytes(io.BytesIO):
    """Bytes in which a seek to before their start (a damaged header asks for it) does nothing.

    soundfile seeks inside a C callback, where an exception cannot be caught and prints a traceback.
    """

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = (0, self.tell(), self.getbuffer().nbytes)[whence]
        return super().seek(base + offset) if base + offset >= 0 else self.tell()


def _decode(stream: BinaryIO, *, name: str, max_seconds: float, max_bytes: int) -> AudioClip:
    num_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if num_bytes == 0:
        raise AudioError(f"{name} is empty (0 bytes)", code="empty")
    if num_bytes > max_bytes:
        raise AudioError(f"{name} has more than {max_bytes} bytes, the limit", code="too_large")
    with _opened(stream, name) as file:
        _check_header(file, name, max_seconds=max_seconds)
        samples_T = _read_all(file, name, max_seconds=max_seconds)
        if is_cut_off(stream, file, len(samples_T)):
            raise AudioError(
                f"{name} is cut off: only its first {len(samples_T) / file.samplerate:.2f} s can be decoded",
                code="decode_failed",
            )
        _check_samples(samples_T, name)
        return AudioClip(samples=samples_T, sample_rate=file.samplerate, name=name)


class _ForwardOnly(soundfile.SoundFile):
    """soundfile seeks to where it is after every read of a seekable file.

    That costs time, damages what follows in an MP3 (frames lean on earlier ones), and fails in a FLAC file
    that does not know its length.
    """

    def seekable(self) -> bool:
        return False


def _opened(stream: BinaryIO, name: str) -> soundfile.SoundFile:
    """Open by descriptor where there is one: libsndfile then reads by itself, not through Python."""
    # Never by name: soundfile takes the format from it where it can, and a name may lie.
    source = stream.fileno() if isinstance(stream, io.FileIO) else stream
    try:
        return _ForwardOnly(source, closefd=False)
    except soundfile.LibsndfileError as error:
        if error.code in _NOT_AUDIO:
            raise AudioError(
                f"{name} is not audio, or in a format that cannot be read", code="unsupported_format"
            ) from error
        raise AudioError(f"{name} cannot be decoded: {_reason(error)}", code="decode_failed") from error


def _check_header(file: soundfile.SoundFile, name: str, *, max_seconds: float) -> None:
    if file.channels > MAX_CHANNELS:
        raise AudioError(
            f"{name} has {file.channels} channels, the limit is {MAX_CHANNELS}", code="unsupported_format"
        )
    if not MIN_SAMPLE_RATE <= file.samplerate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"{name} claims a sample rate of {file.samplerate} Hz; "
            f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz are taken",
            code="unsupported_format",
        )
    # the length of an MP3 without a frame count is a guess, wrong by a factor where its bit rate varies
    if file.format != "MP3" and file.frames < UNKNOWN_FRAMES:
        _check_length(file.frames, file.samplerate, name, max_seconds=max_seconds)


def _check_length(num_samples: int, sample_rate: int, name: str, *, max_seconds: float) -> None:
    if num_samples > max_seconds * sample_rate:
        seconds = num_samples / sample_rate
        raise AudioError(
            f"{name} lasts {seconds:.0f} s or more, the limit is {max_seconds:g} s", code="too_long"
        )
    if num_samples * 4 > MAX_BYTES:
        raise AudioError(
            f"{name} decodes to {num_samples * 4} bytes or more, the limit is {MAX_BYTES}", code="too_large"
        )


def _read_all(file: soundfile.SoundFile, name: str, *, max_seconds: float) -> np.ndarray:
    """Decode to the end or to a limit: (T,) float32, T may be 0."""
    blocks: list[np.ndarray] = []
    decoded = 0
    while True:
        # the announced rest where it is small: a block is allocated at full size
        wanted = min(max(file.frames - decoded, _LAST_LOOK_FRAMES), max(1, BLOCK_VALUES // file.channels))
        try:
            block_TH = file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            after = f" after {decoded / file.samplerate:.2f} s" if decoded else ""
            raise AudioError(
                f"{name} is damaged or cut off: decoding failed{after}: {_reason(error)}",
                code="decode_failed",
            ) from error
        decoded += len(block_TH)
        _check_length(decoded, file.samplerate, name, max_seconds=max_seconds)
        if not len(block_TH):
            return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.float32), *blocks])
        blocks.append(block_TH[:, 0] if file.channels == 1 else block_TH.mean(axis=1, dtype=np.float32))


def _check_samples(samples_T: np.ndarray, name: str) -> None:
    if not len(samples_T):
        raise AudioError(f"{name} holds no samples", code="empty")
    if num_bad := len(samples_T) - int(np.isfinite(samples_T).sum()):
        raise AudioError(
            f"{name}: {num_bad} of {len(samples_T)} samples are NaN or infinite", code="not_finite"
        )


def _reason(error: soundfile.SoundFileError) -> str:
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return text.removeprefix("Error : ").strip().rstrip(".")
