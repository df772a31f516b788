"""The files CLAP's authors published: which family one is of, told by its tensors, and the encoder in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from mats_ray.errors import ModelError, abbreviated
from mats_ray.models.clap import laion, msclap
from mats_ray.models.clap.encoder import CLAP
from mats_ray.models.clap.frontend import LogMel
from mats_ray.models.clap.settings import ClipSettings
from mats_ray.models.clap.tower_clap import TowerCLAP
from mats_ray.models.clap.towers import TransformersTowers
from mats_ray.models.foreign import read_torch_file, unwrap
from mats_ray.models.weights import hash_files
from mats_ray.types import CLAPIdentity

Family = Literal["laion", "msclap"]


def read_published(path: Path) -> tuple[Family, dict[str, Tensor]]:
    """Read a published checkpoint: its family, and its state dict under native names.

    Raises:
        ModelError: The file cannot be read, or holds no CLAP we know.
    """
    state = unwrap(read_torch_file(path), source=str(path))
    if any(name.startswith("audio_branch.") for name in state):
        return "laion", state
    if any(name.startswith("audio_encoder.base.htsat.") for name in state):
        return "msclap", state
    groups = sorted({name.split(".")[0] for name in state})
    raise ModelError(
        f"{path} holds neither a LAION CLAP nor MS-CLAP 2023; its tensors are named"
        f" {abbreviated(groups, most=8) or 'nothing'}"
    )


def load_published(path: Path, *, tokenizer: str | None, quantize_int16: bool | None) -> CLAP:
    """Load a published checkpoint as it is; see ``load_clap``."""
    family, state = read_published(path)
    load = _load_laion if family == "laion" else load_msclap
    return load(state, source=str(path), files=[path], tokenizer=tokenizer, quantize_int16=quantize_int16)


def _load_laion(
    state: Mapping[str, Tensor],
    *,
    source: str,
    files: Sequence[Path],
    tokenizer: str | None,
    quantize_int16: bool | None,
) -> CLAP:
    clap, _ = laion.build_laion(state, source=source)
    audio: Any = clap.config.audio_config
    settings = laion.front_end(fusion=audio.enable_fusion)
    return TowerCLAP(
        TransformersTowers(clap),
        log_mel=LogMel.from_settings(settings),
        clips=ClipSettings.of(settings, quantize_int16=quantize_int16),
        tokens=laion.roberta_tokens(tokenizer or laion.TOKENIZER, clap.config, owner=source),
        identity=CLAPIdentity(
            family="laion", checkpoint_hash=hash_files(files), dim=clap.config.projection_dim
        ),
    )


def load_msclap(
    state: Mapping[str, Tensor],
    *,
    source: str,
    files: Sequence[Path],
    tokenizer: str | None,
    quantize_int16: bool | None,
) -> CLAP:
    """Load MS-CLAP 2023 from tensors under native names, as both its file and a converted directory hold."""
    towers, _ = msclap.build_msclap(state, source=source)
    return TowerCLAP(
        towers,
        log_mel=msclap.msclap_log_mel(state, source=source),
        clips=ClipSettings.of(msclap.FRONT_END, quantize_int16=quantize_int16),
        tokens=msclap.msclap_tokens(tokenizer or msclap.TOKENIZER, towers, owner=source),
        identity=CLAPIdentity(family="msclap", checkpoint_hash=hash_files(files), dim=towers.dim),
    )
