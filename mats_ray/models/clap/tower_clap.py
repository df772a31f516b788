"""CLAP with a mel front end of our own, and what a family of checkpoints provides for it.

Shapes: N mel channels (1, or 4 for LAION's fusion models), B batch, F frames, W frames of the window, M mel
bands, C joint space.
"""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mats_ray.models.clap.frontend import LogMel, LongAudio, Padding, repeat_pad
from mats_ray.models.clap.settings import MelSettings
from mats_ray.models.clap.tokenized_clap import TokenizedCLAP, TokenizedTowers
from mats_ray.models.clap.tokens import TextTokens
from mats_ray.models.weights import hash_files
from mats_ray.types import CLAPIdentity


class Towers(TokenizedTowers):
    """Text tower, and audio tower that takes spectrograms."""

    @abstractmethod
    def embed_audio(self, mel_BNFM: Tensor, is_longer_B: Tensor) -> Tensor:
        """Return (B, C)."""


TowersT = TypeVar("TowersT", bound=Towers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family(Generic[TowersT]):
    """A kind of published checkpoint. "State" is a state dict under the names its authors gave tensors."""

    name: str
    """``CLAPIdentity.family``, stored beside embeddings."""
    title: str
    """Name in error messages, with an article."""
    recognises: Callable[[Collection[str]], bool]
    """Whether tensors of these names are of this family."""
    build: Callable[[Mapping[str, Tensor], str], tuple[TowersT, list[str]]]
    """(state, source) to filled towers and the names of tensors that are not used. Raises ModelError."""
    front_end: Callable[[TowersT], dict[str, Any]]
    """Settings in the format of ``preprocessor_config.json``."""
    log_mel: Callable[[dict[str, Any], Mapping[str, Tensor], str], LogMel] = lambda settings, *_: (
        LogMel.from_settings(settings)
    )
    """(settings, state, source) to the spectrogram, where the checkpoint has kernels of its own."""
    tokenizer: str
    """Hub id of the text tower's tokenizer."""
    tokens: Callable[[str, TowersT, str], TextTokens]
    """(directory or hub id, towers, source) to the tokenizer."""
    convert: Callable[[TowersT, Path], int] | None = None
    """(towers, directory): write ``config.json`` and ``model.safetensors`` in transformers' format and
    return the number of tensors. None where transformers has no such model: the authors' names are kept."""

    @property
    def model_type(self) -> str:
        """``model_type`` in ``config.json`` of a directory that keeps the authors' names."""
        return f"mats_{self.name}"

    def load(
        self,
        state: Mapping[str, Tensor],
        *,
        source: str,
        files: Sequence[Path],
        tokenizer: str | None,
        quantize_int16: bool | None,
    ) -> "TowerCLAP":
        """Build the encoder of a state dict read from ``files``; the other arguments are ``load_clap``'s."""
        towers, _ = self.build(state, source)
        settings = self.front_end(towers)
        return TowerCLAP(
            towers,
            log_mel=self.log_mel(settings, state, source),
            clips=MelSettings.of(settings, quantize_int16=quantize_int16),
            tokens=self.tokens(tokenizer or self.tokenizer, towers, source),
            identity=CLAPIdentity(family=self.name, checkpoint_hash=hash_files(files), dim=towers.dim),
        )


class TowerCLAP(TokenizedCLAP[Towers]):
    """Two towers, a mel front end and a tokenizer."""

    def __init__(
        self,
        towers: Towers,
        *,
        log_mel: LogMel,
        clips: MelSettings,
        tokens: TextTokens,
        identity: CLAPIdentity,
    ) -> None:
        super().__init__(towers, clips=clips, tokens=tokens, identity=identity)
        self.log_mel = log_mel
        self.padding: Padding = clips.padding
        self.fusion = clips.fusion

    def to(self, device: torch.device | str) -> Self:
        """Move both towers and the front end."""
        self.log_mel.to(device)
        return super().to(device)

    def _pieces(self, samples: np.ndarray, long_audio: LongAudio) -> list[np.ndarray]:
        """Fusion models hear a clip whole unless its windows are asked for."""
        if self.fusion and long_audio != "windows":
            return [samples]
        return super()._pieces(samples, long_audio)

    def _embed_pieces(self, pieces: Sequence[np.ndarray], *, center: bool) -> Tensor:
        if self.fusion:
            channels, is_longer = zip(
                *(self._fused_mel(piece, center=center) for piece in pieces), strict=True
            )
            return self.towers.embed_audio(torch.stack(channels), torch.tensor(is_longer))
        mel_BFM = self._log_mel(pieces)
        return self.towers.embed_audio(mel_BFM[:, None], torch.zeros(len(pieces), dtype=torch.bool))

    def _log_mel(self, pieces: Sequence[np.ndarray]) -> Tensor:
        windows = [
            piece
            if len(piece) > self.clips.window_samples
            else repeat_pad(piece, self.clips.window_samples, self.padding)
            for piece in pieces
        ]
        return self.log_mel(torch.from_numpy(np.stack(windows)).to(self.device))

    def _fused_mel(self, piece: np.ndarray, *, center: bool) -> tuple[Tensor, bool]:
        """Four mel channels (4, F, M), and whether the clip is longer than a window."""
        mel_FM = self._log_mel([piece])[0]
        num_frames = 1 + self.clips.window_samples // self.log_mel.hop_length
        if len(mel_FM) == num_frames:
            return mel_FM.expand(4, -1, -1), False
        return fuse(mel_FM, num_frames, chunk_starts(len(mel_FM), num_frames, center=center)), True


def fuse(mel_FM: Tensor, num_frames: int, starts: Sequence[int]) -> Tensor:
    """Stack the input of LAION's fusion models: the shrunk clip and chunks from the given frames, (4, W, M).

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
