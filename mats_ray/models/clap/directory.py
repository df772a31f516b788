"""A CLAP from a directory: transformers' own format, or what ``convert_clap`` wrote of MS-CLAP.

config.json, safetensors, preprocessor_config.json or processor_config.json (front end) and a tokenizer.
"""

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import ClapConfig, ClapModel
from transformers.initialization import no_init_weights

from mats_ray.errors import ModelError
from mats_ray.models.clap.encoder import CLAP
from mats_ray.models.clap.frontend import LogMel
from mats_ray.models.clap.hub import refuse_untrained
from mats_ray.models.clap.laion import roberta_tokens
from mats_ray.models.clap.published import load_msclap
from mats_ray.models.clap.settings import ClipSettings, check_settings, read_front_end, read_json
from mats_ray.models.clap.tower_clap import TowerCLAP
from mats_ray.models.clap.towers import TransformersTowers
from mats_ray.models.foreign import one_error, read_torch_file, unwrap
from mats_ray.models.weights import check_shards, hash_files, load_weights, read_safetensors, refuse_repeated
from mats_ray.types import CLAPIdentity

MSCLAP_TYPE = "mats_msclap"


def load_directory(path: Path, *, tokenizer: str | None, quantize_int16: bool | None) -> CLAP:
    """Load a directory; see ``load_clap``.

    Raises:
        ModelError: Something is missing or does not fit; the message names it.
    """
    config = read_json(path / "config.json")
    refuse_untrained(str(config.get("_name_or_path")), str(path.resolve()))
    files = weight_files(path)
    if not files:
        raise ModelError(f"{path}: no *.safetensors file")
    check_shards(path)
    if config.get("model_type") == MSCLAP_TYPE:
        return load_msclap(
            _read_weights(files),
            source=str(path),
            files=files,
            tokenizer=tokenizer or str(path),
            quantize_int16=quantize_int16,
        )
    if config.get("model_type") != "clap":
        raise ModelError(f"{path}: config.json is of a {config.get('model_type')!r} model, not of a CLAP")
    with one_error(f"the CLAP in {path}"):
        clap_config = ClapConfig.from_dict(config)
    return _load_transformers(path, clap_config, files, tokenizer=tokenizer, quantize_int16=quantize_int16)


def _load_transformers(
    path: Path, config: ClapConfig, files: list[Path], *, tokenizer: str | None, quantize_int16: bool | None
) -> CLAP:
    audio: Any = config.audio_config
    settings, file = read_front_end(path)
    check_settings(settings, audio, source=str(file))
    with one_error(f"the CLAP in {path}"), no_init_weights():
        clap = ClapModel(config)
    load_weights(clap, _read_weights(files), source=str(path))
    return TowerCLAP(
        TransformersTowers(clap),
        # only what was converted from LAION's files says how it quantises: it convolves as that package does
        log_mel=LogMel.from_settings(settings, convolve="quantize_int16" in settings),
        clips=ClipSettings.of(settings, quantize_int16=quantize_int16),
        tokens=roberta_tokens(tokenizer or str(path), config, owner=str(path)),
        identity=CLAPIdentity(
            family="transformers", checkpoint_hash=hash_files(files), dim=config.projection_dim
        ),
    )


def weight_files(path: Path) -> list[Path]:
    """Find a directory's weights in the order of their names: safetensors, else what ``torch.save`` wrote."""
    return sorted(path.glob("*.safetensors")) or sorted(path.glob("pytorch_model*.bin"))


def _read_weights(files: list[Path]) -> dict[str, Tensor]:
    if files[0].suffix == ".safetensors":
        return read_safetensors(files)
    state: dict[str, Tensor] = {}
    for file in files:
        part = unwrap(read_torch_file(file), source=str(file))
        refuse_repeated(state.keys() & part.keys(), file=file)
        state |= part
    return state
