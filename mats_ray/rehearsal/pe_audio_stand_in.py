"""Stand-ins for PE-A-Frame (Meta): published shapes, in transformers' format with front end and tokenizer."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PeAudioConfig, PeAudioFeatureExtractor, PeAudioFrameLevelModel

from mats_ray.caption.clap_shape import TOWERS
from mats_ray.models.stand_in import mark_stand_in
from mats_ray.rehearsal.recipe import fill
from mats_ray.rehearsal.tokenizer_stand_ins import write_modernbert_tokenizer

SIZES = {f"facebook/pe-a-frame-{size}": shape for size, shape in TOWERS.items()}
"""By hub id: width, layers, heads and MLP width of the audio transformer; all have the same text tower."""


def write_pe_audio(ref: str, folder: Path, texts: Sequence[str]) -> None:
    """Write a stand-in: config, weights in float32, front end, tokenizer, marker.

    Args:
        ref: One of ``SIZES``.
        folder: Where to.
        texts: Texts that the tokenizer is trained on.
    """
    mark_stand_in(folder, of=ref)
    config = pe_audio_config(ref)
    with torch.device("meta"):
        state = PeAudioFrameLevelModel(config).state_dict()
    tensors = {
        name: torch.from_numpy(fill(name, tuple(tensor.shape)))
        for name, tensor in state.items()
        if tensor.is_floating_point()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tree = config.to_dict() | {"architectures": ["PeAudioFrameLevelModel"]}
    (folder / "config.json").write_text(json.dumps(tree, indent=2) + "\n", "utf-8")
    PeAudioFeatureExtractor().save_pretrained(folder)
    write_modernbert_tokenizer(folder, texts)


def pe_audio_config(ref: str) -> PeAudioConfig:
    """Return the published configuration of a size."""
    width, layers, heads, mlp = SIZES[ref]
    return PeAudioConfig(
        audio_config={
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "intermediate_size": mlp,
        }
    )
