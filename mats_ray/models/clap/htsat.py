"""HTSAT, the audio tower of LAION's CLAP and of MS-CLAP 2023: its native names and sizes.

Native names are those of both packages' own code; ours are those of ``transformers.ClapAudioModel``.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import ClapAudioConfig

from mats_ray.models.weights import NativeName, dim, numbers_in

# Part of the published files that embeddings do not need: fixed front-end kernels, the tagging head.
UNUSED = r"(spectrogram_extractor|logmel_extractor|tscam_conv|head)\..*|.*\.attn_mask"

_THIRDS = {"query": 0, "key": 1, "value": 2}
_RENAMED = (
    ("batch_norm.", "bn0."),
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
    (".attention.self.relative_position", ".attn.relative_position"),
    (".attention.output.dense.", ".attn.proj."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
)


def native_name(name: str) -> NativeName:
    """Name the native tensor behind one of ``ClapAudioModel.audio_encoder``; q, k and v are thirds of one."""
    fused = re.fullmatch(r"(.*)\.attention\.self\.(query|key|value)\.(weight|bias)", name)
    if fused:
        block, part, leaf = fused.groups()
        return NativeName(f"{block}.attn.qkv.{leaf}", third=_THIRDS[part])
    for ours, native in _RENAMED:
        if name.startswith(ours) or (ours.startswith(".") and ours in name):
            return NativeName(name.replace(ours, native))
    return NativeName(name)


def htsat_config(state: Mapping[str, Tensor], prefix: str) -> ClapAudioConfig:
    """Read the sizes of an HTSAT off its tensors; where one is missing, HTSAT-tiny's size is assumed."""
    width = dim(state, f"{prefix}patch_embed.proj.weight", 0, default=96)
    stages = 1 + max(numbers_in(state, rf"{prefix}layers\.(\d+)\."), default=3)
    depths, heads = [], []
    for stage in range(stages):
        layer = f"{prefix}layers.{stage}."
        depths.append(1 + max(numbers_in(state, rf"{layer}blocks\.(\d+)\."), default=1))
        bias_table = f"{layer}blocks.0.attn.relative_position_bias_table"
        heads.append(dim(state, bias_table, 1, default=4 * 2**stage))
    fusion = any(name.startswith(f"{prefix}patch_embed.fusion_model.") for name in state)
    settings: dict[str, Any] = {"enable_fusion": True, "fusion_type": "aff_2d"} if fusion else {}
    return ClapAudioConfig(
        patch_embeds_hidden_size=width,
        hidden_size=width * 2 ** (stages - 1),
        depths=depths,
        num_attention_heads=heads,
        **settings,
    )
