"""libsndfile: wav, flac, ogg (Vorbis, Opus), mp3, aiff, au, caf and more.

Shapes: T samples, H channels.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile

from mats_ray.data.decoders.limits import BLOCK_VALUES, Limits, broken, check_format, cut_off
from mats_ray.data.decoders.promises import is_short
from mats_ray.data.decoders.truncation import UNKNOWN_FRAMES, is_cut_off
from mats_ray.errors import AudioDecodeError

# libsndfile's error numbers of data that no reader took for its own (7: what its MP3 reader says of them)
_NOT_AUDIO = {1, 7}
_UNSUPPORTED_ENCODING = 4
# asked for once more when all announced frames are read
_LAST_LOOK_FRAMES = 4096


@contextmanager
def open_sndfile(stream: BinaryIO, name: str, limits: Limits) -> Iterator["SndfileDecoder"]:
    """Open a file that libsndfile may know, its header within the limits.

    Raises:
        AudioDecodeError: Codes ``not_audio``, ``unsupported``, ``damaged``, ``truncated``, ``too_long``,
            ``too_large``.
    """
    with _opened(stream, name) as file:
        check_format(file.channels, file.samplerate, name)
        # the length of an MP3 without a frame count is a guess, wrong by a factor where its bit rate varies
        if file.format != "MP3" and file.frames < UNKNOWN_FRAMES:
            limits.check_length(file.frames, file.samplerate, name)
        yield SndfileDecoder(file, stream, name)


@dataclass(frozen=True, eq=False)
class SndfileDecoder:
    """One open file."""

    file: soundfile.SoundFile
    stream: BinaryIO
    name: str

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.file.samplerate

    def blocks(self) -> Iterator[np.ndarray]:
        """Decode to the end: the mean of the channels, (T,) float32, T at least 1.

        Raises:
            AudioDecodeError: Codes ``damaged`` and ``truncated``.
        """
        decoded = 0
        while len(block_TH := self._next(decoded)):
            decoded += len(block_TH)
            yield block_TH[:, 0] if self.file.channels == 1 else block_TH.mean(axis=1, dtype=np.float32)
        if is_cut_off(self.stream, self.file, decoded):
            raise cut_off(self.name, decoded / self.sample_rate)

    def _next(self, decoded: int) -> np.ndarray:
        # the announced rest where it is small: a block is allocated at full size
        rest = max(self.file.frames - decoded, _LAST_LOOK_FRAMES)
        wanted = min(rest, max(1, BLOCK_VALUES // self.file.channels))
        try:
            return self.file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            seconds = decoded / self.sample_rate
            raise broken(
                self.name, _reason(error), at_end=_looks_cut(self.stream), seconds=seconds
            ) from error


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
            raise AudioDecodeError(
                f"{name} is not audio, or in a format that cannot be read", code="not_audio"
            ) from error
        if error.code == _UNSUPPORTED_ENCODING:
            raise AudioDecodeError(
                f"{name} holds a kind of samples that cannot be decoded: {_reason(error)}", code="unsupported"
            ) from error
        raise broken(name, _reason(error), at_end=_looks_cut(stream)) from error


def _looks_cut(stream: BinaryIO) -> bool:
    if not stream.read(1):
        return True
    stream.seek(0)
    return stream.read(4) == b"caff" and is_short(stream, "caf")


def _reason(error: soundfile.SoundFileError) -> str:
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return text.removeprefix("Error : ").strip().rstrip(".")
