"""FFmpeg, through PyAV which ships it: the audio track of m4a, mp4, mov, 3gp, webm, mka, wma, amr, raw AAC.

And what libsndfile does not decode of its own containers: Ogg FLAC and Speex, AAC or AC-3 in WAV, MP2.

It is restricted to one given container, a list of codecs (no video decoder starts), no protocol, and no file
but the one it is given.

Shapes: T samples, H channels.
"""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from mats_ray.data.decoders.limits import (
    BLOCK_VALUES,
    TOLERANCE_SECONDS,
    Limits,
    broken,
    check_format,
    cut_off,
)
from mats_ray.data.decoders.segments import Segment, View
from mats_ray.errors import AudioDecodeError

DEMUXERS = (
    *("mov", "matroska", "asf", "amr", "aac", "loas", "mp3"),
    *("ogg", "wav", "w64", "aiff", "au", "caf"),
)
CODECS = (
    *("aac", "aac_latm", "alac", "amrnb", "amrwb", "opus", "vorbis", "flac", "speex", "ac3", "eac3"),
    *("mp1float", "mp1", "mp2float", "mp2", "mp3float", "mp3"),
    *("wmav1", "wmav2", "wmapro", "wmalossless", "wmavoice"),
    *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_u8", "pcm_s8"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_alaw", "pcm_mulaw"),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "g722", "adpcm_g722", "gsm", "gsm_ms"),
)
# codecs whose packets have no length of their own, and the containers that keep none for them
_PACKETS = ("aac", "aac_latm", "alac", "amrnb", "amrwb", "opus", "vorbis", "flac", "speex")
_WITHOUT_PACKETS = ("wav", "w64", "aiff", "au")
_RESTRICTIONS = {
    "format_whitelist": ",".join(DEMUXERS),
    "codec_whitelist": ",".join(CODECS),
    "protocol_whitelist": "none",
    "max_streams": "64",
    "max_samples": str(2**20),
}
DECLARED_TOLERANCE_SECONDS = 0.25
"""Missing at the end of whole files: frames an encoder starts with are declared and then dropped."""

_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}


@contextmanager
def open_ffmpeg(
    view: View, segment: Segment, name: str, limits: Limits, *, container: str
) -> Iterator["FFmpegDecoder"]:
    """Open the first sound track of a segment, its header within the limits.

    Raises:
        AudioDecodeError: Codes ``not_audio`` (no sound track), ``unsupported``, ``damaged``, ``truncated``,
            ``empty``, ``too_long``, ``too_large``.
    """
    with closing(_opened(view, name, container)) as file:
        track = _sound_track(file, name, container, short=segment.missing > 0)
        declared = _declared_seconds(file, track) if segment.has_duration else 0.0
        decoder = FFmpegDecoder(file, track, segment, name, declared=declared)
        limits.check_length(round(declared * decoder.sample_rate), decoder.sample_rate, name)
        yield decoder


class FFmpegDecoder:
    """One open file, its first frame decoded: only that gives the sample rate of some AAC for certain.

    Attributes:
        sample_rate: In Hz.
    """

    def __init__(
        self, file: InputContainer, track: av.AudioStream, segment: Segment, name: str, *, declared: float
    ) -> None:
        self._file, self._track, self._name = file, track, name
        self._declared, self._missing, self._has_frames = declared, segment.missing, bool(segment.frames)
        self._reached, self._tick_seconds = 0.0, dict[int, float]()
        self._frames = self._decode()
        self._first = next(self._frames, None)
        if self._first is None:
            raise cut_off(name, 0.0) if declared or segment.missing else _no_samples(name)
        self.sample_rate = self._first.sample_rate
        check_format(self._first.layout.nb_channels, self.sample_rate, name)

    def blocks(self) -> Iterator[np.ndarray]:
        """Decode to the end: (T, H) float32, T at least 1.

        Raises:
            AudioDecodeError: Codes ``damaged``, ``truncated``, ``unsupported`` (a new sample rate half-way).
        """
        # frames are short: to make an array of each takes longer than to decode them
        held, decoded, full, kind = av.AudioFifo(), 0, 0, None
        assert self._first is not None
        for frame in itertools.chain([self._first], self._frames):
            frame_kind = (frame.sample_rate, frame.layout.nb_channels, frame.format.name)
            if frame_kind != kind or held.samples >= full:
                if held.samples:
                    yield _samples(held)
                self._check_rate(frame)
                held, full, kind = av.AudioFifo(), max(1, BLOCK_VALUES // frame_kind[1]), frame_kind
            decoded += frame.samples
            frame.pts = None  # the fifo refuses gaps
            held.write(frame)
        yield _samples(held)
        seconds = decoded / self.sample_rate
        missing = self._declared - max(self._reached, seconds)
        tolerance = TOLERANCE_SECONDS if self._missing else DECLARED_TOLERANCE_SECONDS
        if not self._declared:
            missing = seconds * self._missing if seconds else self._missing
        if missing > tolerance:
            raise cut_off(self._name, seconds)

    def _check_rate(self, frame: av.AudioFrame) -> None:
        if frame.sample_rate != self.sample_rate:
            raise AudioDecodeError(
                f"{self._name} changes its sample rate from {self.sample_rate} to {frame.sample_rate} Hz",
                code="unsupported",
            )
        check_format(frame.layout.nb_channels, frame.sample_rate, self._name)

    def _decode(self) -> Iterator[av.AudioFrame]:
        """Demultiplex the file to its end: a video that continues shows that the file is whole."""
        packet: Any = None
        track = self._track.index
        streams = [] if self._track.duration is None else [self._track]
        try:
            for packet in self._file.demux(*streams):
                self._check_packet(packet)
                if packet.stream_index == track:
                    for frame in packet.decode():
                        if frame.samples:
                            yield frame
        except (FFmpegError, ValueError) as error:
            is_last = not self._has_frames and _is_last(packet, self._file.size)
            at_end = self._missing > 0 or is_last
            raise broken(self._name, _reason(error), at_end=at_end, seconds=self._reached) from error

    def _check_packet(self, packet: Any) -> None:
        if packet.is_corrupt:
            if self._missing:
                raise cut_off(self._name, self._reached)
            raise broken(self._name, "a packet is incomplete", at_end=False, seconds=self._reached)
        if packet.pts is not None:
            index = packet.stream_index
            if index not in self._tick_seconds:  # a fraction, slow to multiply
                self._tick_seconds[index] = float(packet.time_base)
            end = (packet.pts + (packet.duration or 0)) * self._tick_seconds[index]
            self._reached = max(self._reached, end)


def _opened(view: View, name: str, container: str) -> InputContainer:
    view.seek(0)
    try:
        file = av.open(
            view,
            format=container,
            options=dict(_RESTRICTIONS),
            metadata_errors="replace",
            io_open=_refuse_other_files,
        )
    except (FFmpegError, ValueError) as error:
        raise broken(name, _reason(error), at_end=not view.read(1)) from error
    assert isinstance(file, InputContainer)
    return file


def _refuse_other_files(url: str, flags: int, options: Mapping[str, str]) -> BinaryIO:  # noqa: ARG001
    raise PermissionError(f"an audio file may not open {url!r}")


def _sound_track(file: InputContainer, name: str, container: str, *, short: bool) -> av.AudioStream:
    tracks = file.streams.audio
    context: Any = tracks[0].codec_context if tracks else None
    if context is None and short:
        raise cut_off(name, 0.0)
    if not tracks:
        raise AudioDecodeError(f"{name} has no sound track", code="not_audio")
    unbound = context is not None and container in _WITHOUT_PACKETS and context.name in _PACKETS
    if context is None or unbound or context.name not in CODECS:
        codec = context.name if context is not None else "unknown"
        raise AudioDecodeError(
            f"{name} holds sound of a kind that cannot be decoded ({codec})", code="unsupported"
        )
    context.options = {"max_samples": _RESTRICTIONS["max_samples"]}
    context.thread_count = 1
    return tracks[0]


def _declared_seconds(file: InputContainer, track: av.AudioStream) -> float:
    """A QuickTime track has a length of its own; elsewhere it is that of everything in the file."""
    if track.duration is not None and track.time_base is not None:
        return max(0.0, float(track.duration * track.time_base))
    return max(0.0, (file.duration or 0) / av.time_base)


def _samples(held: av.AudioFifo) -> np.ndarray:
    """Take all samples: (T, H)."""
    frame = held.read()
    assert frame is not None
    values = frame.to_ndarray()
    values_TH = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    kind = frame.format.name.removesuffix("p")
    if kind == "flt":
        return values_TH
    samples_TH = values_TH.astype(np.float32)
    return (samples_TH - 128 if kind == "u8" else samples_TH) / np.float32(_FULL_SCALE[kind])


def _is_last(packet: Any, num_bytes: int) -> bool:
    """Whether a packet is the file's last: a cut stream of bare packets ends within one."""
    return packet is not None and packet.pos is not None and packet.pos + packet.size >= num_bytes


def _no_samples(name: str) -> AudioDecodeError:
    return AudioDecodeError(f"{name} holds no samples", code="empty")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
