"""ESC-10's recordings as log-mel spectrograms, and random augmentations of them.

Shapes: N clips, B batch, F frames, M mel bands, K classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import ClapFeatureExtractor

from examples.esc10.classes import NAMES
from mats_ray.data.audio import read_audio
from mats_ray.models.clap.frontend import LogMel

SAMPLE_RATE, SECONDS, NUM_MELS, SPEC_SIZE = 32_000, 5, 64, 128
FRONT_END = ClapFeatureExtractor(
    feature_size=NUM_MELS,
    sampling_rate=SAMPLE_RATE,
    hop_length=-(-SAMPLE_RATE * SECONDS // (SPEC_SIZE * SPEC_SIZE // NUM_MELS - 2)),
    max_length_s=SECONDS,
    fft_window_size=1024,
    frequency_min=50,
    frequency_max=14_000,
    truncation="rand_trunc",
    padding="repeatpad",
)
MAX_GAIN_DB, MAX_TILT_DB, MAX_BANDS, MAX_FRAMES = 10.0, 6.0, 10, 40


def clips_of(folder: Path, folds: Sequence[int]) -> list[tuple[Path, int]]:
    """List the clips of some folds and their class; a file's name starts with its fold."""
    return [
        (path, kind)
        for kind, name in enumerate(NAMES)
        for path in sorted((folder / name).glob("*.ogg"))
        if int(path.name[0]) in folds
    ]


def log_mels(paths: Sequence[Path]) -> Tensor:
    """Decode clips and return their log-mel spectrograms, (N, F, M)."""
    front_end = LogMel.from_settings(FRONT_END.to_dict())
    mels = []
    for path in paths:
        samples = read_audio(path, sample_rate=SAMPLE_RATE).samples[: SAMPLE_RATE * SECONDS]
        samples = np.pad(samples, (0, SAMPLE_RATE * SECONDS - len(samples)))
        mels.append(front_end(torch.from_numpy(samples)[None]))
    return torch.cat(mels)


def augmented(mels_BFM: Tensor, labels_BK: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Shift, tilt, mix pairs (mixup, as power) and mask: few clips go further. Labels mix as well."""
    shifted_BFM = torch.stack([_shifted(mel_FM, rng) for mel_FM in mels_BFM])
    other_B = torch.from_numpy(rng.permutation(len(mels_BFM)))
    share_B = torch.from_numpy(rng.beta(0.4, 0.4, len(mels_BFM))).float()
    power_BFM = share_B[:, None, None] * _power(shifted_BFM)
    power_BFM += (1 - share_B)[:, None, None] * _power(shifted_BFM[other_B])
    mixed_BFM = 10 * torch.log10(power_BFM + 1e-10)
    mean = mixed_BFM.mean()
    for mel_FM in mixed_BFM:
        for _ in range(2):
            band, start = rng.integers(NUM_MELS - MAX_BANDS), rng.integers(len(mel_FM) - MAX_FRAMES)
            mel_FM[:, band : band + rng.integers(1, MAX_BANDS)] = mean
            mel_FM[start : start + rng.integers(1, MAX_FRAMES)] = mean
    return mixed_BFM, share_B[:, None] * labels_BK + (1 - share_B)[:, None] * labels_BK[other_B]


def _shifted(mel_FM: Tensor, rng: np.random.Generator) -> Tensor:
    shifts = int(rng.integers(len(mel_FM))), int(rng.integers(-2, 3))
    tilt_M = torch.linspace(-1, 1, NUM_MELS) * float(rng.uniform(-MAX_TILT_DB, MAX_TILT_DB))
    return torch.roll(mel_FM, shifts, (0, 1)) + tilt_M + float(rng.uniform(-MAX_GAIN_DB, MAX_GAIN_DB))


def _power(mels: Tensor) -> Tensor:
    return 10 ** (mels / 10)
