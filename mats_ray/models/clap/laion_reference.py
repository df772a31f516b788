"""LAION's own package as a backend, for comparison with its numbers.

Its import downloads a tokenizer and its loader prints; neither happens unless this backend is chosen.
"""

import contextlib
import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mats_ray.errors import ModelError
from mats_ray.models.clap import htsat, laion
from mats_ray.models.clap.encoder import CLAP
from mats_ray.models.clap.families import read_checkpoint
from mats_ray.models.clap.settings import ClipSettings, MelSettings
from mats_ray.models.weights import hash_files
from mats_ray.types import CLAPIdentity

_AUDIO_TOWERS = {96: "HTSAT-tiny", 128: "HTSAT-base", 256: "HTSAT-large"}


class LAIONReference(CLAP):
    """``laion_clap.CLAP_Module`` behind the methods of ``CLAP``; its embeddings always have length 1.

    Long clips are cut here and never reach the package, which would crop them at random.
    """

    def __init__(self, module: Any, *, clips: ClipSettings, identity: CLAPIdentity) -> None:
        super().__init__(clips=clips, identity=identity)
        self.module = module

    def to(self, device: torch.device | str) -> Self:
        """Move the package's model."""
        self.module.to(device)
        return self

    def _embed_texts(self, texts: Sequence[str], *, batch_size: int) -> Tensor:
        batches = [
            self.module.get_text_embedding(list(texts[start : start + batch_size]), use_tensor=True)
            for start in range(0, len(texts), batch_size)
        ]
        return torch.cat(batches) if batches else torch.empty(0, self.dim)

    def _embed_pieces(self, pieces: Sequence[np.ndarray], *, center: bool) -> Tensor:  # noqa: ARG002
        # Arrays, not tensors: with tensors the package skips its rounding to 16 bits.
        return torch.from_numpy(self.module.get_audio_embedding_from_data(list(pieces), use_tensor=False))


def load_laion_reference(path: Path) -> LAIONReference:
    """Load one of LAION's files into LAION's package.

    Raises:
        ModelError: The package is absent or cannot start, or the file is not one of LAION's.
    """
    if not path.is_file():
        raise ModelError(f"no CLAP at {path}: laion_clap reads one of LAION's .pt files")
    # Reading it here also refuses pickled code in it, which the package would run.
    family, state = read_checkpoint(path)
    audio = htsat.htsat_config(state, "audio_branch.")
    if family is not laion.LAION or audio.patch_embeds_hidden_size not in _AUDIO_TOWERS:
        raise ModelError(f"{path} holds no CLAP that laion_clap supports")
    with contextlib.redirect_stdout(io.StringIO()):
        module = _package().CLAP_Module(
            enable_fusion=audio.enable_fusion,
            device="cpu",
            amodel=_AUDIO_TOWERS[audio.patch_embeds_hidden_size],
        )
        module.load_ckpt(str(path))
    # No fusion here: the package gets windows only, and rounds to 16 bits itself.
    settings = laion.front_end(fusion=False) | {"quantize_int16": False}
    dim = state["audio_projection.2.weight"].shape[0]
    return LAIONReference(
        module,
        clips=MelSettings.of(settings),
        identity=CLAPIdentity(family="laion", checkpoint_hash=hash_files([path]), dim=dim),
    )


def _package() -> Any:
    try:
        return importlib.import_module("laion_clap")
    except ImportError as error:
        raise ModelError(
            f"clap.implementation: laion_clap needs LAION's package ({error}); it requires numpy<2, so"
            " install 'mats-ray[laion]' in an environment of its own, or use clap.implementation: native"
        ) from error
    except OSError as error:
        raise ModelError(
            f"laion_clap downloads the roberta-base tokenizer when it is imported, and could not: {error}"
        ) from error
