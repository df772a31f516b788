"""Sound files made on the fly: what soundfile writes, and through PyAV what only FFmpeg reads."""

import io

import av
import numpy as np
import soundfile

SNDFILE_KINDS = {
    "wav": {"format": "WAV"},
    "flac": {"format": "FLAC"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3"},
    "aiff": {"format": "AIFF"},
    "au": {"format": "AU"},
    "caf": {"format": "CAF"},
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
}
"""Container and codec, as FFmpeg names them."""

RATES = {"3gp": 8_000, "amr": 8_000, "webm": 48_000}
"""Where not every one will do."""


def tone(seconds=2.0, rate=16_000):
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def sndfile_bytes(samples, rate, **kind):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **(kind or {"format": "WAV"}))
    return buffer.getvalue()


def ffmpeg_bytes(samples_T, kind="m4a", *, rate=None, channels=1, options=None, video_seconds=0):
    """Encode mono samples; with ``video_seconds`` a grey picture goes along."""
    container, codec = FFMPEG_KINDS[kind]
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
        frame.sample_rate = rate
        convert = av.AudioResampler(format=sound.codec_context.format, layout=sound.layout, rate=rate)
        for part in [*convert.resample(frame), *convert.resample(None), None]:
            file.mux(sound.encode(part))
    return buffer.getvalue()
