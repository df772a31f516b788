"""Front-end settings in the format of transformers' ``preprocessor_config.json``, and what follows from them.

Three keys are ours, ignored by transformers: ``quantize_int16``, ``resampler`` and ``mel_sampling_rate`` (the
rate the mel bank is laid out for, where it is not that of the audio).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from mats_ray.errors import ModelError, abbreviated
from mats_ray.models.clap.frontend import Padding
from mats_ray.models.clap.resample import Resampler

if TYPE_CHECKING:
    from transformers import ClapAudioConfig

_COUNTS = ("sampling_rate", "fft_window_size", "hop_length", "feature_size")
_NUMBERS = ("max_length_s", "frequency_min", "frequency_max")
_CHOICES = {
    "truncation": ("rand_trunc", "fusion"),
    "padding": get_args(Padding),
    "resampler": get_args(Resampler),
}
_OURS = {"resampler"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSettings:
    """How a family turns a waveform of any rate and length into windows."""

    sample_rate: int
    window_samples: int
    resampler: Resampler
    quantize_int16: bool
    """Round samples to 16 bits first, as LAION's package does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MelSettings(ClipSettings):
    """The same, and how a window becomes the input of a mel front end."""

    padding: Padding
    fusion: bool
    """Four mel channels: the whole clip shrunk, and three chunks of it (LAION's fusion models)."""

    @classmethod
    def of(cls, settings: Mapping[str, Any], *, quantize_int16: bool | None = None) -> "MelSettings":
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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: There is no such file, or it holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent}: no {path.name}") from None
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} must hold an object")
    return content


def read_front_end(folder: Path) -> tuple[dict[str, Any], Path]:
    """Read a directory's front end; returns it and the file it is in.

    It is ``preprocessor_config.json``, or a part of the ``processor_config.json`` that ``ClapProcessor`` of
    transformers 5 writes in its place.

    Raises:
        ModelError: Neither is there, or it does not hold a front end.
    """
    own, processor = folder / "preprocessor_config.json", folder / "processor_config.json"
    if own.is_file() or not processor.is_file():
        return read_json(own), own
    settings = read_json(processor).get("feature_extractor")
    if not isinstance(settings, dict):
        raise ModelError(f"{processor} holds no feature_extractor, and there is no {own.name}")
    return settings, processor


def check_front_end(settings: Mapping[str, Any], *, source: str) -> None:
    """Check that a front end is complete and every value in it is allowed.

    Raises:
        ModelError: Names what is missing, or a value and what is allowed.
    """
    known = {*_COUNTS, *_NUMBERS, *_CHOICES}
    if missing := sorted(known - _OURS - settings.keys()):
        raise ModelError(f"{source} lacks {', '.join(missing)}")
    for key in sorted(known & settings.keys()):
        value, allowed = settings[key], _CHOICES.get(key)
        is_number = isinstance(value, int if key in _COUNTS else (int, float)) and not isinstance(value, bool)
        if allowed is not None and value not in allowed:
            raise ModelError(f"{source}: {key} is {abbreviated([value])}, not one of {', '.join(allowed)}")
        if allowed is None and not (is_number and 0 <= value < 1e9 and (value or key == "frequency_min")):
            raise ModelError(f"{source}: {key} is {abbreviated([value])}, not a number above 0")
    if settings["frequency_min"] >= settings["frequency_max"]:
        raise ModelError(f"{source}: frequency_min is not below frequency_max")


def check_settings(settings: Mapping[str, Any], audio: "ClapAudioConfig", *, source: str) -> None:
    """Compare a front end with the audio tower it feeds.

    Raises:
        ModelError: A setting is missing, or they do not fit.
    """
    check_front_end(settings, source=source)
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
