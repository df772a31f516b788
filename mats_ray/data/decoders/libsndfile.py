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
from mats_ray.data.decoders.segments import Segment, View
from mats_ray.errors import AudioDecodeError

Reader: TypeAlias = "io.BufferedReader[Any]"

_UNKNOWN_FRAMES = 2**62
"""libsndfile's frame count is above this where the header declares none."""

# libsndfile's error numbers of data that none of its readers recognises (7: the error of its MP3 reader)
_NOT_AUDIO = {1, 7}
_UNSUPPORTED_ENCODING = 4
# read once more when all declared frames are read
_LAST_LOOK_FRAMES = 4096
_MAX_UNREAD_BYTES = 65_536
_BUFFER_BYTES = 65_536


@contextmanager
def open_sndfile(view: View, segment: Segment, name: str, limits: Limits) -> Iterator["SndfileDecoder"]:
    """Open a segment that libsndfile may know, its header within the limits.

    Raises:
        AudioDecodeError: Codes ``not_audio``, ``unsupported``, ``damaged``, ``truncated``, ``too_long``,
            ``too_large``.
    """
    reader: Reader = io.BufferedReader(
        view, _BUFFER_BYTES
    )  # libsndfile reads an MP3 in pieces of a few bytes
    with _opened(reader, segment, name) as file:
        check_format(file.channels, file.samplerate, name)
        decoder = SndfileDecoder(file, reader, segment, name)
        limits.check_length(decoder.declared, file.samplerate, name)
        yield decoder


@dataclass(frozen=True, eq=False)
class SndfileDecoder:
    """One open segment."""

    file: soundfile.SoundFile
    reader: Reader
    segment: Segment
    name: str

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.file.samplerate

    @property
    def declared(self) -> int:
        """Number of samples per channel there should be; 0: not known."""
        counted = self.file.frames if self.file.frames < _UNKNOWN_FRAMES else 0
        return self.segment.declared_frames or counted

    def blocks(self) -> Iterator[np.ndarray]:
        """Decode to the end: (T, H) float32, T at least 1.

        Raises:
            AudioDecodeError: Codes ``damaged`` and ``truncated``.
        """
        decoded = 0
        while len(block_TH := self._next(decoded)):
            decoded += len(block_TH)
            yield block_TH
        missing = max(decoded and decoded * self.segment.missing, self.declared - decoded)
        if missing > TOLERANCE_SECONDS * self.sample_rate or (self.segment.missing and not decoded):
            raise cut_off(self.name, decoded / self.sample_rate)

    def _next(self, decoded: int) -> np.ndarray:
        # what is declared and no more, for a block is allocated at full size; then a look at what follows
        rest = self.declared - decoded if self.declared > decoded else _LAST_LOOK_FRAMES
        if not self.declared:
            rest = BLOCK_VALUES
        wanted = min(rest, max(1, BLOCK_VALUES // self.file.channels))
        try:
            return self.file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            # what follows the frames it counts is none of them: a tag; it should be small
            if 0 < self.segment.declared_frames <= decoded and _unread(self.reader) < _MAX_UNREAD_BYTES:
                return np.empty((0, self.file.channels), np.float32)
            seconds = decoded / self.sample_rate
            raise broken(
                self.name, _reason(error), at_end=_was_cut(self.reader, self.segment), seconds=seconds
            ) from error


class _ForwardOnly(soundfile.SoundFile):
    """soundfile seeks to where it is after every read of a seekable file.

    That costs time, damages what follows in an MP3 (frames lean on earlier ones), and fails in a FLAC file
    that does not know its length.
    """

    def seekable(self) -> bool:
        return False


def _opened(reader: Reader, segment: Segment, name: str) -> soundfile.SoundFile:
    reader.seek(0)
    try:
        file = _ForwardOnly(reader)
    except soundfile.LibsndfileError as error:
        if error.code in _NOT_AUDIO and not segment.missing:
            raise not_audio(name) from error
        if error.code == _UNSUPPORTED_ENCODING:
            raise _unsupported(name, _reason(error)) from error
        raise broken(name, _reason(error), at_end=_was_cut(reader, segment)) from error
    if file.format != "MP3" and file.subtype.startswith("MPEG"):
        raise _unsupported(name, "MP3 within it, of a length that libsndfile guesses")
    return file


def _unsupported(name: str, reason: str) -> AudioDecodeError:
    return AudioDecodeError(
        f"{name} holds a kind of samples that cannot be decoded: {reason}", code="unsupported"
    )


def _was_cut(reader: Reader, segment: Segment) -> bool:
    return segment.missing > 0 or not _unread(reader)


def _unread(reader: Reader) -> int:
    place = reader.tell()
    return reader.seek(0, os.SEEK_END) - place


def _reason(error: soundfile.SoundFileError) -> str:
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return text.removeprefix("Error : ").strip().rstrip(".")
