"""A stand-in for MS-CLAP 2023, ``CLAP_weights_2023.pth``, with the published names, shapes and types.

Names come from the loader's own table (``models/clap/msclap.py``), and from a list of what the published file
holds beside: front-end kernels, a tagging head, attention masks, counters.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import ClapAudioConfig, GPT2Config

from mats_ray.models.clap.frontend import LogMel
from mats_ray.models.clap.msclap import FRONT_END, MSCLAPTowers, native_name
from mats_ray.models.stand_in import mark_stand_in
from mats_ray.rehearsal.recipe import fill

FILE = "CLAP_weights_2023.pth"
_HTSAT = "audio_encoder.base.htsat."
_DEPTHS, _WINDOW, _CLASSES = (2, 2, 6, 2), 8, 527


def write_msclap(folder: Path) -> Path:
    """Write the file (690 MB) and its marker; returns its path."""
    mark_stand_in(folder, of="MS-CLAP 2023")
    torch.save({"model": dict(msclap_state())}, folder / FILE)
    return folder / FILE


def msclap_state() -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of the published file by name."""
    shapes = _weight_shapes() | _other_shapes()
    yield from _front_end()
    for name, shape in shapes.items():
        yield name, torch.from_numpy(fill(name, shape))
    yield from _constants()


def _weight_shapes() -> dict[str, tuple[int, ...]]:
    """Read names and shapes off the towers; a fused projection is three of theirs."""
    with torch.device("meta"):
        towers = MSCLAPTowers(
            audio=ClapAudioConfig(
                patch_embeds_hidden_size=96,
                hidden_size=768,
                depths=list(_DEPTHS),
                num_attention_heads=[4, 8, 16, 32],
            ),
            text=GPT2Config(use_cache=False),
            dim=1024,
        )
    shapes = dict[str, tuple[int, ...]]()
    for ours, tensor in towers.state_dict().items():
        native, shape = native_name(ours), tuple(tensor.shape)
        if tensor.is_floating_point():
            fused = (3 * shape[0], *shape[1:]) if native.third is not None else shape
            shapes[native.name] = fused
    return shapes


def _other_shapes() -> dict[str, tuple[int, ...]]:
    """List what the published file holds and embeddings do not need."""
    return {
        f"{_HTSAT}tscam_conv.weight": (_CLASSES, 768, 2, 3),
        f"{_HTSAT}tscam_conv.bias": (_CLASSES,),
        f"{_HTSAT}head.weight": (_CLASSES, _CLASSES),
        f"{_HTSAT}head.bias": (_CLASSES,),
        "logit_scale": (),
    }


def _front_end() -> Iterator[tuple[str, Tensor]]:
    log_mel = LogMel.from_settings(FRONT_END)
    real, imaginary = log_mel.kernels.chunk(2)
    yield f"{_HTSAT}spectrogram_extractor.stft.conv_real.weight", real.clone()
    yield f"{_HTSAT}spectrogram_extractor.stft.conv_imag.weight", imaginary.clone()
    yield f"{_HTSAT}logmel_extractor.melW", log_mel.bank_KM.clone()


def _constants() -> Iterator[tuple[str, Tensor]]:
    """Yield counters, index tables and masks; their values are not read."""
    yield f"{_HTSAT}bn0.num_batches_tracked", torch.tensor(0)
    positions, side = _WINDOW**2, 64  # patches of a side in the first stage
    for stage, depth in enumerate(_DEPTHS):
        windows = max(1, (side // 2**stage // _WINDOW) ** 2)
        for block in range(depth):
            prefix = f"{_HTSAT}layers.{stage}.blocks.{block}."
            index = torch.zeros(positions, positions, dtype=torch.int64)
            yield f"{prefix}attn.relative_position_index", index
            if block % 2 and windows > 1:  # every second block of a stage is shifted
                yield f"{prefix}attn_mask", torch.zeros(windows, positions, positions)
    for layer in range(12):
        mask = torch.ones(1024, 1024).tril()[None, None]  # float32: with it the file has its published 690 MB
        yield f"caption_encoder.base.h.{layer}.attn.bias", mask
        yield f"caption_encoder.base.h.{layer}.attn.masked_bias", torch.tensor(-math.inf).clamp(min=-1e4)
