"""Writes what transformers' PeAudioModel answers on the recipe's weights: data/pe_audio_dev.npz.

    python -m tests.golden.pe_audio_reference

Stored, and not only compared with the installed version, because another transformers may answer otherwise:
5.23 reads texts behind ModernBERT's last norm (``text_behind_norm``), the one that published PE-AV before it.
"""

import json
from typing import Any

import numpy as np
import torch
import transformers

from tests.golden.recipe import GOLDEN
from tests.pe_audio import SAMPLE_RATE, reference_audio, reference_text, small_config, small_model

SALT = "dev"
IDS = [[0, 4, 5, 6, 2], [0, 7, 8, 9, 10, 11, 12, 4, 13, 14, 15, 4, 16, 17, 2], [0, 16, 2], [0, 2]]
LENGTHS = (30_000, 9_601, 1)


def clips():
    """Draw int16 noise that fades, 48 kHz."""
    draw = np.random.default_rng(0)
    return [(draw.uniform(-0.6, 0.6, n) * np.linspace(1, 0.2, n) * 32_767).astype(np.int16) for n in LENGTHS]


def write():
    """Compute each clip and each text alone."""
    before = small_model(small_config(tie_last_hidden_states=False), salt=SALT)
    behind = small_model(small_config(tie_last_hidden_states=True), salt=SALT)
    texts = [torch.tensor([ids]) for ids in IDS]
    sounds = clips()
    arrays: dict[str, Any] = {f"clip_{index}": clip for index, clip in enumerate(sounds)}
    arrays["audio"] = torch.stack([reference_audio(before, clip / np.float32(32_768)) for clip in sounds])
    arrays["text"] = torch.cat([reference_text(before, ids) for ids in texts])
    arrays["text_behind_norm"] = torch.cat([reference_text(behind, ids) for ids in texts])
    meta = {"salt": SALT, "transformers": transformers.__version__, "sample_rate": SAMPLE_RATE}
    np.savez_compressed(GOLDEN / f"pe_audio_{SALT}.npz", meta=json.dumps(meta), **arrays)


if __name__ == "__main__":
    write()
