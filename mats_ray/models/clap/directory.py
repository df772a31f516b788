"""A CLAP from a directory in transformers' format: config, safetensors, front end settings, tokenizer."""

import json
from pathlib import Path
from typing import Any

from transformers import ClapConfig, ClapModel
from transformers.initialization import no_init_weights

from mats_ray.errors import ModelError
from mats_ray.models.clap.encoder import CLAP, ClipSettings
from mats_ray.models.clap.frontend import LogMel
from mats_ray.models.clap.tokens import TextTokens
from mats_ray.models.clap.towers import TransformersTowers
from mats_ray.models.clap.weights import hash_files, load_weights, read_safetensors
from mats_ray.types import CLAPIdentity

# LAION trained on texts of at most 77 tokens.
MAX_TEXT_TOKENS = 77

_FRONT_END_KEYS = {
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


def load_directory(path: Path, *, tokenizer: str | None = None) -> CLAP:
    """Load a directory that ``transformers.ClapModel.save_pretrained`` wrote, with its preprocessor config.

    Args:
        path: The directory.
        tokenizer: Directory or hub id of another tokenizer than the one inside.

    Raises:
        ModelError: Something is missing or does not fit; the message names it.
    """
    config = ClapConfig.from_dict(_read_json(path / "config.json"))
    settings = _read_front_end(path / "preprocessor_config.json", config)
    files = weight_files(path)
    with no_init_weights():
        clap = ClapModel(config)
    load_weights(clap, read_safetensors(files), source=str(path))
    return CLAP(
        TransformersTowers(clap),
        log_mel=LogMel.from_settings(settings),
        clips=clip_settings(settings),
        tokens=roberta_tokens(tokenizer or str(path), config, owner=str(path)),
        identity=CLAPIdentity(
            family="transformers", checkpoint_hash=hash_files(files), dim=config.projection_dim
        ),
    )


def weight_files(path: Path) -> list[Path]:
    """Find a directory's safetensors files, in the order of their names."""
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{path}: no *.safetensors file")
    return files


def clip_settings(settings: dict[str, Any]) -> ClipSettings:
    """Read a preprocessor config's part about waveforms."""
    return ClipSettings(
        sample_rate=settings["sampling_rate"],
        window_samples=round(settings["max_length_s"] * settings["sampling_rate"]),
        padding=settings["padding"],
        resampler="soxr",
    )


def roberta_tokens(ref: str, config: ClapConfig, *, owner: str) -> TextTokens:
    """Tokenise as LAION does, within what the text tower can take."""
    text: Any = config.text_config
    # RoBERTa counts positions from pad_token_id + 1.
    positions = text.max_position_embeddings - text.pad_token_id - 1
    return TextTokens(
        ref,
        owner=owner,
        vocab_size=text.vocab_size,
        max_tokens=min(MAX_TEXT_TOKENS, positions),
        pad_id=text.pad_token_id,
    )


def _read_front_end(path: Path, config: ClapConfig) -> dict[str, Any]:
    settings = _read_json(path)
    if missing := sorted(_FRONT_END_KEYS - settings.keys()):
        raise ModelError(f"{path} lacks {', '.join(missing)}")
    audio: Any = config.audio_config
    frames = 1 + settings["max_length_s"] * settings["sampling_rate"] // settings["hop_length"]
    room = audio.spec_size * (audio.spec_size // audio.num_mel_bins)
    if settings["feature_size"] != audio.num_mel_bins or frames > room:
        raise ModelError(
            f"{path}: {frames} frames of {settings['feature_size']} mel bands do not fit the audio tower,"
            f" which takes {room} frames of {audio.num_mel_bins}"
        )
    return settings


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent}: no {path.name}") from None
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
