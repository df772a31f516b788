"""LAION's published checkpoints (``630k-audioset-best.pt`` and others) as a ``transformers.ClapModel``."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from transformers import ClapConfig, ClapModel
from transformers.initialization import no_init_weights

from mats_ray.models.clap import htsat
from mats_ray.models.clap.tower_clap import Family
from mats_ray.models.clap.transformers_clap import TransformersTowers, roberta_tokens
from mats_ray.models.weights import NativeName, dim, load_weights, numbers_in

_UNUSED = rf"audio_branch\.({htsat.UNUSED})|(text|audio)_transform\..*"


def front_end(*, fusion: bool) -> dict[str, Any]:
    """Return the front end all of LAION's checkpoints share, in the format of a preprocessor config."""
    return {
        "feature_extractor_type": "ClapFeatureExtractor",
        "sampling_rate": 48_000,
        "max_length_s": 10,
        "fft_window_size": 1024,
        "hop_length": 480,
        "feature_size": 64,
        "frequency_min": 50,
        "frequency_max": 14_000,
        "truncation": "fusion" if fusion else "rand_trunc",
        "padding": "repeatpad",
        "quantize_int16": True,
    }


def build_laion(state: Mapping[str, Tensor], source: str) -> tuple[TransformersTowers, list[str]]:
    """Build the towers that a native state dict describes and fill them; also return the names left out.

    Raises:
        ModelError: Names every tensor that is missing, extra or mis-shaped.
    """
    with no_init_weights():
        clap = ClapModel(_config(state))
    left_out = load_weights(clap, state, source=source, native_name=_native_name, unused=_UNUSED)
    return TransformersTowers(clap), left_out


def _config(state: Mapping[str, Tensor]) -> ClapConfig:
    embeddings = "text_branch.embeddings"
    width = dim(state, f"{embeddings}.word_embeddings.weight", 1, default=768)
    layers = numbers_in(state, r"text_branch\.encoder\.layer\.(\d+)\.")
    text_config = {
        "vocab_size": dim(state, f"{embeddings}.word_embeddings.weight", 0, default=50265),
        "hidden_size": width,
        "num_hidden_layers": 1 + max(layers, default=11),
        "num_attention_heads": max(1, width // 64),
        "intermediate_size": dim(
            state, "text_branch.encoder.layer.0.intermediate.dense.bias", 0, default=3072
        ),
        "max_position_embeddings": dim(state, f"{embeddings}.position_embeddings.weight", 0, default=514),
        "layer_norm_eps": 1e-5,  # RoBERTa's; transformers' CLAP has 1e-12 by default
    }
    return ClapConfig(
        text_config=text_config,
        audio_config=htsat.htsat_config(state, "audio_branch.").to_dict(),
        projection_dim=dim(state, "audio_projection.2.weight", 0, default=512),
        architectures=["ClapModel"],
    )


def _native_name(name: str) -> NativeName:
    if name.startswith("audio_model.audio_encoder."):
        native = htsat.native_name(name.removeprefix("audio_model.audio_encoder."))
        return native._replace(name=f"audio_branch.{native.name}")
    if name.startswith("text_model."):
        return NativeName(name.replace("text_model.", "text_branch.", 1))
    return NativeName(re.sub(r"_projection\.linear([12])\.", _mlp_index, name))


def _mlp_index(linear: re.Match[str]) -> str:
    return f"_projection.{2 * int(linear[1]) - 2}."


def _recognises(names: Collection[str]) -> bool:
    return any(name.startswith("audio_branch.") for name in names)


def _front_end(towers: TransformersTowers) -> dict[str, Any]:
    audio: Any = towers.clap.config.audio_config
    return front_end(fusion=audio.enable_fusion)


def _convert(towers: TransformersTowers, folder: Path) -> int:
    tensors = towers.clap.state_dict()
    towers.clap.config.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return len(tensors)


LAION = Family(
    name="laion",
    title="a LAION CLAP",
    recognises=_recognises,
    build=build_laion,
    front_end=_front_end,
    tokenizer="roberta-base",
    tokens=roberta_tokens,
    convert=_convert,
)
