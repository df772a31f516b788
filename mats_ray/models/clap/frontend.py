"""CLAP's audio front end: waveform -> fixed windows -> log-mel spectrogram, on the model's device.

The published packages (LAION, MS-CLAP) compute the Fourier transform as a float32 convolution with windowed
sine and cosine kernels, and so does this module on the CPU: the rounding noise in near-empty mel bands is
part of the reference (``torch.stft`` is up to 0.1 dB off there, which moves embeddings by 1e-6).
Transformers' extractor computes a float64 FFT, and so does this module for its models, in a quarter of the
time.

Shapes: B batch, T samples, F frames, K frequency bins, M mel bands.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from mats_ray.models.window_grid import WindowGrid

MelScale = Literal["slaney", "htk"]
Padding = Literal["repeatpad", "repeat", "pad"]
LongAudio = Literal["windows", "first", "center"]

_POWER_FLOOR = 1e-10


class LogMel(nn.Module):
    """Log-mel spectrogram in dB: (B, T) float32 waveforms in [-1, 1] -> (B, 1 + T // hop_length, M).

    Args:
        sample_rate: Rate the mel bank is laid out for, in Hz.
        n_fft: Window and FFT length in samples (periodic Hann, centred, reflected at the ends).
        hop_length: Samples between frames.
        num_mels: Mel bands.
        f_min: Lower edge of the first band in Hz.
        f_max: Upper edge of the last band in Hz.
        mel_scale: "slaney" (area-normalised, as librosa) or "htk" (not normalised, as torchaudio).
        convolve: On the CPU, compute the Fourier transform as the published packages do.
    """

    kernels: Tensor
    bank_KM: Tensor

    def __init__(
        self,
        *,
        sample_rate: int,
        n_fft: int,
        hop_length: int,
        num_mels: int,
        f_min: float,
        f_max: float,
        mel_scale: MelScale = "slaney",
        convolve: bool = True,
    ) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.convolve = convolve
        bank_KM = mel_filter_bank(
            n_fft // 2 + 1,
            num_mels,
            f_min,
            f_max,
            sample_rate,
            norm="slaney" if mel_scale == "slaney" else None,
            mel_scale=mel_scale,
        )
        self.register_buffer("kernels", _fourier_kernels(n_fft), persistent=False)
        self.register_buffer("bank_KM", torch.from_numpy(bank_KM).float(), persistent=False)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], *, convolve: bool = True) -> Self:
        """Build from the keys of ``preprocessor_config.json`` (transformers' ``ClapFeatureExtractor``).

        As there, ``truncation: fusion`` means the HTK bank and ``rand_trunc`` the Slaney bank. One key is
        ours: ``mel_sampling_rate``, where the bank is laid out for another rate than the audio's.
        """
        return cls(
            sample_rate=settings.get("mel_sampling_rate", settings["sampling_rate"]),
            n_fft=settings["fft_window_size"],
            hop_length=settings["hop_length"],
            num_mels=settings["feature_size"],
            f_min=settings["frequency_min"],
            f_max=settings["frequency_max"],
            mel_scale="htk" if settings["truncation"] == "fusion" else "slaney",
            convolve=convolve,
        )

    def forward(self, waveforms_BT: Tensor) -> Tensor:
        """Return the log-mel spectrogram (B, F, M) in dB, floored at -100."""
        # GPUs round convolutions to TF32 by default, which costs far more than the FFT's own noise.
        on_cpu = waveforms_BT.device.type == "cpu"
        if on_cpu and self.convolve:
            power_BKF = self._convolved(waveforms_BT)
        elif on_cpu:  # one by one: a batch in float64 does not fit into a processor's cache
            power_BKF = torch.cat([self._transformed(one_1T) for one_1T in waveforms_BT.split(1)])
        else:
            power_BKF = self._transformed(waveforms_BT)
        mel_BFM = power_BKF.transpose(1, 2) @ self.bank_KM
        return 10 * mel_BFM.clamp(min=_POWER_FLOOR).log10()

    def _convolved(self, waveforms_BT: Tensor) -> Tensor:
        margin = self.n_fft // 2
        padded_B1T = nn.functional.pad(waveforms_BT[:, None], (margin, margin), mode="reflect")
        spectrum = nn.functional.conv1d(padded_B1T, self.kernels, stride=self.hop_length)
        real_BKF, imag_BKF = spectrum.chunk(2, dim=1)
        return real_BKF.square() + imag_BKF.square()

    def _transformed(self, waveforms_BT: Tensor) -> Tensor:
        exact_BT = waveforms_BT.double() if waveforms_BT.device.type == "cpu" else waveforms_BT
        window = torch.hann_window(self.n_fft, device=exact_BT.device, dtype=exact_BT.dtype)
        spectrum_BKF = torch.stft(
            exact_BT, self.n_fft, self.hop_length, window=window, return_complex=True, pad_mode="reflect"
        )
        squares_BKF2 = torch.view_as_real(spectrum_BKF).square()  # in one pass: parts alternate
        return (squares_BKF2[..., 0] + squares_BKF2[..., 1]).to(waveforms_BT.dtype)


def _fourier_kernels(n_fft: int) -> Tensor:
    """Windowed cosine and minus-sine kernels, (2K, 1, n_fft)."""
    time = torch.arange(n_fft)
    frequency = torch.arange(n_fft // 2 + 1)[:, None]
    # The modulo is computed on integers: in float64 the phase of high bins would lose digits.
    phase = 2 * torch.pi * (frequency * time % n_fft).double() / n_fft
    hann = torch.hann_window(n_fft, dtype=torch.float64)
    return torch.cat([phase.cos() * hann, -phase.sin() * hann]).float()[:, None]


def repeat_pad(samples: np.ndarray, num_samples: int, padding: Padding = "repeatpad") -> np.ndarray:
    """Fit a clip of at most ``num_samples`` samples into exactly that many.

    Args:
        samples: (T,), 1 <= T <= num_samples.
        num_samples: Window length.
        padding: "repeatpad" (whole repeats, then zeros; LAION), "repeat" (repeats, the last one cut;
            MS-CLAP), or "pad" (zeros only).
    """
    if padding == "repeat":
        return np.resize(samples, num_samples)
    if padding == "repeatpad":
        samples = np.tile(samples, num_samples // len(samples))
    return np.pad(samples, (0, num_samples - len(samples)))


def quantize_int16(samples: np.ndarray) -> np.ndarray:
    """Round to 16 bits, towards zero, as LAION's package does: (T,) float32 -> (T,) float32."""
    return (samples.clip(-1, 1) * 32767).astype(np.int16) / np.float32(32767)


def cut_windows(
    samples: np.ndarray, num_samples: int, sample_rate: int, long_audio: LongAudio
) -> list[np.ndarray]:
    """Cut a clip into pieces of at most ``num_samples`` samples, never at random places.

    "windows" gives all consecutive pieces, as ``WindowGrid`` places them (the last may be short; a rest under
    10 ms, which belongs to the piece before, is left out), "first" and "center" one piece.
    """
    if len(samples) <= num_samples:
        return [samples]
    if long_audio == "windows":
        bounds = WindowGrid.of(num_samples, sample_rate).bounds(len(samples))
        return [samples[start : min(end, start + num_samples)] for start, end in bounds]
    start = (len(samples) - num_samples) // 2 if long_audio == "center" else 0
    return [samples[start : start + num_samples]]
