"""libsndfile: wav, flac, ogg (Vorbis, Opus), mp3, aiff, au, caf and more.

Shapes: T samples, H channels.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import soundfile

from mats_ray.data.decoders.limits import (
    BLOCK_VALUES,
    TOLERANCE_SECONDS,
    Limits,
    broken,
    check_format,
    cut_off,
    not_audio,
)
from mats_ray.data.decoders.segments import Part, View
from mats_ray.errors import AudioDecodeError

Reader: TypeAlias = "io.BufferedReader[Any]"

_UNKNOWN_FRAMES = 2**62
"""libsndfile's frame count is above this where the header does not tell."""

# libsndfile's error numbers of data that no reader took for its own (7: what its MP3 reader says of them)
_NOT_AUDIO = {1, 7}
_UNSUPPORTED_ENCODING = 4
# asked for once more when all announced frames are read
_LAST_LOOK_FRAMES = 4096
_MAX_UNREAD_BYTES = 65_536
_BUFFER_BYTES = 65_536


@contextmanager
def open_sndfile(view: View, part: Part, name: str, limits: Limits) -> Iterator["SndfileDecoder"]:
    """Open a part that libsndfile may know, its header within the limits.

    Raises:
        AudioDecodeError: Codes ``not_audio``, ``unsupported``, ``damaged``, ``truncated``, ``too_long``,
            ``too_large``.
    """
    reader: Reader = io.BufferedReader(
        view, _BUFFER_BYTES
    )  # libsndfile reads an MP3 in pieces of a few bytes
    with _opened(reader, part, name) as file:
        check_format(file.channels, file.samplerate, name)
        decoder = SndfileDecoder(file, reader, part, name)
        limits.check_length(decoder.announced, file.samplerate, name)
        yield decoder


@dataclass(frozen=True, eq=False)
class SndfileDecoder:
    """One open part."""

    file: soundfile.SoundFile
    reader: Reader
    part: Part
    name: str

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.file.samplerate

    @property
    def announced(self) -> int:
        """Samples per channel there should be; 0: not known."""
        counted = self.file.frames if self.file.frames < _UNKNOWN_FRAMES else 0
        return self.part.announced_frames or counted

    def blocks(self) -> Iterator[np.ndarray]:
        """Decode to the end: (T, H) float32, T at least 1.

        Raises:
            AudioDecodeError: Codes ``damaged`` and ``truncated``.
        """
        decoded = 0
        while len(block_TH := self._next(decoded)):
            decoded += len(block_TH)
            yield block_TH
        missing = max(decoded and decoded * self.part.missing, self.announced - decoded)
        if missing > TOLERANCE_SECONDS * self.sample_rate or (self.part.missing and not decoded):
            raise cut_off(self.name, decoded / self.sample_rate)

    def _next(self, decoded: int) -> np.ndarray:
        # what is announced and no more, for a block is allocated at full size; then a look at what follows
        rest = self.announced - decoded if self.announced > decoded else _LAST_LOOK_FRAMES
        if not self.announced:
            rest = BLOCK_VALUES
        wanted = min(rest, max(1, BLOCK_VALUES // self.file.channels))
        try:
            return self.file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            # what follows the frames it counts is none of them: a tag; it should be small
            if 0 < self.part.announced_frames <= decoded and _unread(self.reader) < _MAX_UNREAD_BYTES:
                return np.empty((0, self.file.channels), np.float32)
            seconds = decoded / self.sample_rate
            raise broken(
                self.name, _reason(error), at_end=_was_cut(self.reader, self.part), seconds=seconds
            ) from error


class _ForwardOnly(soundfile.SoundFile):
    """soundfile seeks to where it is after every read of a seekable file.

    That costs time, damages what follows in an MP3 (frames lean on earlier ones), and fails in a FLAC file
    that does not know its length.
    """

    def seekable(self) -> bool:
        return False


def _opened(reader: Reader, part: Part, name: str) -> soundfile.SoundFile:
    reader.seek(0)
    try:
        file = _ForwardOnly(reader)
    except soundfile.LibsndfileError as error:
        if error.code in _NOT_AUDIO and not part.missing:
            raise not_audio(name) from error
        if error.code == _UNSUPPORTED_ENCODING:
            raise _unsupported(name, _reason(error)) from error
        raise broken(name, _reason(error), at_end=_was_cut(reader, part)) from error
    if file.format != "MP3" and file.subtype.startswith("MPEG"):
        raise _unsupported(name, "MP3 within it, of a length that libsndfile guesses")
    return file


def _unsupported(name: str, reason: str) -> AudioDecodeError:
    return AudioDecodeError(
        f"{name} holds a kind of samples that cannot be decoded: {reason}", code="unsupported"
    )


def _was_cut(reader: Reader, part: Part) -> bool:
    return part.missing > 0 or not _unread(reader)


def _unread(reader: Reader) -> int:
    place = reader.tell()
    return reader.seek(0, os.SEEK_END) - place


def _reason(error: soundfile.SoundFileError) -> str:
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return text.removeprefix("Error : ").strip().rstrip(".")
