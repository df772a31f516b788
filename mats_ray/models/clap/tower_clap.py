"""CLAP on our own towers and front end: what ``load_clap`` gives unless told otherwise.

Shapes: N inputs, B batch, T tokens, F frames, M mel bands, C joint space.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize as unit

from mats_ray.models.clap.encoder import CLAP
from mats_ray.models.clap.frontend import LogMel, repeat_pad
from mats_ray.models.clap.fusion import chunk_starts, fuse
from mats_ray.models.clap.settings import ClipSettings
from mats_ray.models.clap.tokens import TextTokens
from mats_ray.models.clap.towers import Towers
from mats_ray.types import CLAPIdentity


class TowerCLAP(CLAP):
    """Two towers, a mel front end and a tokenizer; the families differ in what these are."""

    def __init__(
        self,
        towers: Towers,
        *,
        log_mel: LogMel,
        clips: ClipSettings,
        tokens: TextTokens,
        identity: CLAPIdentity,
    ) -> None:
        super().__init__(clips=clips, identity=identity)
        self.towers = towers.eval().requires_grad_(requires_grad=False)
        self.log_mel = log_mel
        self.tokens = tokens

    def to(self, device: torch.device | str) -> Self:
        """Move both towers and the front end."""
        self.towers.to(device)
        self.log_mel.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.log_mel.kernels.device

    def _embed_texts(self, texts: Sequence[str], *, batch_size: int) -> Tensor:
        rows = self.tokens(texts) if texts else []
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        embeddings_NC = torch.empty(len(rows), self.dim, device=self.device)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            ids_BT, mask_BT = self.tokens.pad([rows[index] for index in batch])
            embeddings_NC[batch] = self.encode_tokens(ids_BT, mask_BT, normalize=False)
        return embeddings_NC

    @torch.inference_mode()
    def encode_tokens(self, ids_BT: Tensor, mask_BT: Tensor, *, normalize: bool = True) -> Tensor:
        """Embed token ids, special tokens included and padded on the right: (B, T) int64 -> (B, C)."""
        embeddings_BC = self.towers.embed_text(ids_BT.to(self.device), mask_BT.to(self.device))
        return unit(embeddings_BC, dim=-1) if normalize else embeddings_BC

    def _embed_pieces(self, pieces: Sequence[np.ndarray], *, center: bool) -> Tensor:
        if self.clips.fusion:
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
            else repeat_pad(piece, self.clips.window_samples, self.clips.padding)
            for piece in pieces
        ]
        return self.log_mel(torch.from_numpy(np.stack(windows)).to(self.device))

    def _fused_mel(self, piece: np.ndarray, *, center: bool) -> tuple[Tensor, bool]:
        """Four mel channels (4, F, M), and whether the chunks among them say more than the whole does."""
        mel_FM = self._log_mel([piece])[0]
        num_frames = 1 + self.clips.window_samples // self.log_mel.hop_length
        if len(mel_FM) == num_frames:
            return mel_FM.expand(4, -1, -1), False
        return fuse(mel_FM, num_frames, chunk_starts(len(mel_FM), num_frames, center=center)), True
