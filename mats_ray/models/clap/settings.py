"""Front-end settings in the format of transformers' ``preprocessor_config.json``, and what follows from them.

Three keys are ours, ignored by transformers: ``quantize_int16``, ``resampler`` and ``mel_sampling_rate`` (the
rate the mel bank is laid out for, where it is not that of the audio).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import ClapAudioConfig

from mats_ray.errors import ModelError
from mats_ray.models.clap.frontend import Padding
from mats_ray.models.clap.resample import Resampler

_REQUIRED = {
    "sampling_rate",
    "fft_window_size",
    "hop_length",
    "feature_size",
    "frequency_min",
    "frequency_max",
    "truncation",
    "max_length_s",
    "padding",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSettings:
    """How a family turns a waveform of any rate and length into what its mel front end takes."""

    sample_rate: int
    window_samples: int
    padding: Padding
    resampler: Resampler
    quantize_int16: bool
    """Round samples to 16 bits first, as LAION's package does."""
    fusion: bool
    """Four mel channels: the whole clip shrunk, and three chunks of it (LAION's fusion models)."""

    @classmethod
    def of(cls, settings: Mapping[str, Any], *, quantize_int16: bool | None = None) -> "ClipSettings":
        """Read them from a preprocessor config; quantisation may be decided otherwise than there."""
        return cls(
            sample_rate=settings["sampling_rate"],
            window_samples=round(settings["max_length_s"] * settings["sampling_rate"]),
            padding=settings["padding"],
            resampler=settings.get("resampler", "soxr"),
            quantize_int16=settings.get("quantize_int16", False)
            if quantize_int16 is None
            else quantize_int16,
            fusion=settings["truncation"] == "fusion",
        )


def check_settings(settings: Mapping[str, Any], audio: ClapAudioConfig, *, source: str) -> None:
    """Compare a front end with the audio tower it feeds.

    Raises:
        ModelError: A setting is missing, or they do not fit.
    """
    if missing := sorted(_REQUIRED - settings.keys()):
        raise ModelError(f"{source} lacks {', '.join(missing)}")
    frames = 1 + round(settings["max_length_s"] * settings["sampling_rate"]) // settings["hop_length"]
    room = audio.spec_size * (audio.spec_size // audio.num_mel_bins)
    if settings["feature_size"] != audio.num_mel_bins or frames > room:
        raise ModelError(
            f"{source}: {frames} frames of {settings['feature_size']} mel bands do not fit the audio tower,"
            f" which takes {room} frames of {audio.num_mel_bins}"
        )
    if (settings["truncation"] == "fusion") != audio.enable_fusion:
        raise ModelError(
            f"{source}: truncation is {settings['truncation']!r}, but the audio tower has"
            f" enable_fusion={audio.enable_fusion}; fusion models need 'fusion', others 'rand_trunc'"
        )
