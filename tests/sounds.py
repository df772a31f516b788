"""Sound files made on the fly: by soundfile, and by PyAV those that only FFmpeg reads."""

import io
import tempfile

import av
import numpy as np
import soundfile

from mats_ray.data.audio import Limits, open_audio
from mats_ray.errors import AudioError
from mats_ray.types import AudioClip

SNDFILE_KINDS = {
    "wav": {"format": "WAV"},
    "flac": {"format": "FLAC"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3"},
    "aiff": {"format": "AIFF"},
    "au": {"format": "AU"},
    "caf": {"format": "CAF"},
    "w64": {"format": "W64"},
    "rf64": {"format": "RF64"},
}

FFMPEG_KINDS = {
    "m4a": ("ipod", "aac"),
    "alac": ("ipod", "alac"),
    "mp4": ("mp4", "aac"),
    "mov": ("mov", "pcm_s16le"),
    "3gp": ("3gp", "libopencore_amrnb"),
    "webm": ("webm", "libopus"),
    "mka": ("matroska", "pcm_s16le"),
    "wma": ("asf", "wmav2"),
    "amr": ("amr", "libopencore_amrnb"),
    "aac": ("adts", "aac"),
    "latm": ("latm", "aac"),
    "mp2": ("mp2", "mp2"),
    "oga": ("ogg", "flac"),
    "wav with ac3": ("wav", "ac3"),
}
"""Container and codec, as FFmpeg names them."""

RATES = {"3gp": 8_000, "amr": 8_000, "webm": 48_000}
"""FFmpeg kinds that need a given codec or rate."""


def tone(seconds=2.0, rate=16_000):
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def sndfile_bytes(samples, rate, **kind):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **(kind or {"format": "WAV"}))
    return buffer.getvalue()


def ffmpeg_bytes(samples_T, kind="m4a", *, rate=None, channels=1, codec=None, options=None, video_seconds=0):
    """Encode mono samples; with ``video_seconds`` a grey video track is added."""
    container, codec = FFMPEG_KINDS[kind][0], codec or FFMPEG_KINDS[kind][1]
    rate = rate or RATES.get(kind, 44_100)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options or {}) as file:
        picture = file.add_stream("mpeg4", rate=5, width=16, height=16) if video_seconds else None
        sound = file.add_stream(codec, rate=rate, layout={1: "mono", 2: "stereo", 6: "5.1"}[channels])
        sound.codec_context.bit_rate = 12_200 if rate == 8_000 else 64_000
        for index in range(round(video_seconds * 5)):
            frame = av.VideoFrame(16, 16, "yuv420p")
            frame.pts = index
            file.mux(picture.encode(frame))
        if picture is not None:
            file.mux(picture.encode(None))
        samples_CT = np.ascontiguousarray(np.stack([samples_T] * channels), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(samples_CT, format="fltp", layout=sound.layout.name)
        frame.sample_rate, frame.pts = rate, 0
        convert = av.AudioResampler(format=sound.codec_context.format, layout=sound.layout, rate=rate)
        for part in [*convert.resample(frame), *convert.resample(None), None]:
            file.mux(sound.encode(part))
    return buffer.getvalue()


def decoded(data, name="clip", *, sample_rate=None, **limits):
    """Decode from memory and from a file, which must give the same clip, or the same error."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        in_memory, by_path = (
            _outcome(source, name=name, sample_rate=sample_rate, limits=Limits(**limits))
            for source in (data, file.name)
        )
    assert type(in_memory) is type(by_path), (in_memory, by_path)
    if isinstance(in_memory, AudioError):
        assert (in_memory.code, str(in_memory)) == (by_path.code, str(by_path))
        raise in_memory
    assert in_memory.sample_rate == by_path.sample_rate
    np.testing.assert_array_equal(in_memory.samples, by_path.samples)
    return in_memory


def _outcome(source, **how):
    try:
        with open_audio(source, **how) as audio:
            blocks = list(audio)
    except AudioError as error:
        return error
    return AudioClip(samples=np.concatenate(blocks), sample_rate=audio.sample_rate, name=audio.name)
