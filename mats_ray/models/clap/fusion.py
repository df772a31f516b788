"""LAION's fusion input: a long clip as four mel channels, the whole of it shrunk and three chunks.

Shapes: F frames of the clip, W frames of the window, M mel bands.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


def fuse(mel_FM: Tensor, num_frames: int, starts: Sequence[int]) -> Tensor:
    """Stack the shrunk clip and the chunks that start at the given frames: (4, W, M).

    Shrinking does not smooth first, as in the torchvision the models were trained with.
    """
    shrunk_WM = nn.functional.interpolate(
        mel_FM[None, None], size=(num_frames, mel_FM.shape[1]), mode="bilinear", align_corners=False
    )[0, 0]
    return torch.stack([shrunk_WM, *(mel_FM[start : start + num_frames] for start in starts)])


def chunk_starts(total_frames: int, num_frames: int, *, center: bool) -> list[int]:
    """Choose one chunk of the front, middle and back third of a clip: each third's first or central start.

    Differs from LAION, which draws one start of each third at random.
    """
    thirds = np.array_split(np.arange(total_frames - num_frames + 1), 3)
    return [int(third[len(third) // 2 if center else 0]) if len(third) else 0 for third in thirds]
