"""CLAP as the rest of the package sees it: texts and waveforms in, embeddings of one joint space out.

Shapes: N inputs, B batch, P pieces of clips, T tokens or samples, C joint space.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from mats_ray.errors import AudioError
from mats_ray.models.clap.frontend import LogMel, LongAudio, Padding, cut_windows, repeat_pad
from mats_ray.models.clap.resample import Resampler, resample
from mats_ray.models.clap.tokens import TextTokens
from mats_ray.models.clap.towers import Towers
from mats_ray.types import CLAPIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSettings:
    """How a family turns a waveform of any rate and length into windows."""

    sample_rate: int
    window_samples: int
    padding: Padding
    resampler: Resampler


class CLAP:
    """A frozen CLAP: (N, C) float32 embeddings of texts and of audio, L2-normalised unless told otherwise.

    Results are deterministic, and do not depend on what an input was batched with.

    Attributes:
        identity: Which CLAP this is; stored beside every embedding.
        dim: C, width of the joint space.
        sample_rate: Rate the audio tower listens at, in Hz; other rates are resampled.
        window_seconds: Length the audio tower hears at once.

    Example:
        >>> clap = load_clap("toy/clap")  # doctest: +SKIP
        >>> clap.encode_text(["a dog barks"]) @ clap.encode_audio([waveform], 44100).T  # doctest: +SKIP
    """

    def __init__(
        self,
        towers: Towers,
        *,
        log_mel: LogMel,
        clips: ClipSettings,
        tokens: TextTokens,
        identity: CLAPIdentity,
    ) -> None:
        self.towers = towers.eval().requires_grad_(requires_grad=False)
        self.log_mel = log_mel
        self.clips = clips
        self.tokens = tokens
        self.identity = identity
        self.dim = identity.dim
        self.sample_rate = clips.sample_rate
        self.window_seconds = clips.window_samples / clips.sample_rate

    def to(self, device: torch.device | str) -> Self:
        """Move both towers and the front end; embeddings come out on the same device."""
        self.towers.to(device)
        self.log_mel.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.log_mel.bank_KM.device

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str], *, batch_size: int = 64, normalize: bool = True) -> Tensor:
        """Embed texts: (N, C) float32, in the order given.

        Args:
            texts: Any number of texts; those too long for the tower are cut as the family's reference does.
            batch_size: Texts per forward pass; they are sorted by length first, to spend little on padding.
            normalize: Scale each embedding to length 1.

        Raises:
            ModelError: There is no tokenizer, or it does not fit.
        """
        rows = self.tokens(texts) if texts else []
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        embeddings_NC = torch.empty(len(rows), self.dim, device=self.device)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            ids_BT, mask_BT = self.tokens.pad([rows[index] for index in batch])
            embeddings_NC[batch] = self.encode_tokens(ids_BT, mask_BT, normalize=normalize)
        return embeddings_NC

    @torch.inference_mode()
    def encode_tokens(self, ids_BT: Tensor, mask_BT: Tensor, *, normalize: bool = True) -> Tensor:
        """Embed token ids, special tokens included and padded on the right: (B, T) int64 -> (B, C)."""
        embeddings_BC = self.towers.embed_text(ids_BT.to(self.device), mask_BT.to(self.device))
        return nn.functional.normalize(embeddings_BC, dim=-1) if normalize else embeddings_BC

    @torch.inference_mode()
    def encode_audio(
        self,
        waveforms: Sequence[np.ndarray],
        sample_rate: int,
        *,
        long_audio: LongAudio = "windows",
        batch_size: int = 16,
        normalize: bool = True,
    ) -> Tensor:
        """Embed clips: (N, C) float32.

        Args:
            waveforms: Mono clips (T,) float32 in [-1, 1], each of any length but zero.
            sample_rate: Their rate in Hz.
            long_audio: What is heard of a clip longer than ``window_seconds``: "windows" (the mean over fixed
                windows, each weighted by the seconds it covers), "first" or "center" (one window).
            batch_size: Windows per forward pass.
            normalize: Scale each embedding to length 1 (and each window's, before their mean is taken).

        Raises:
            AudioError: A clip is empty (code "empty").
        """
        pieces_per_clip = [self._cut(waveform, sample_rate, long_audio) for waveform in waveforms]
        pieces = [piece for pieces in pieces_per_clip for piece in pieces]
        embeddings_PC = torch.empty(len(pieces), self.dim, device=self.device)
        for start in range(0, len(pieces), batch_size):
            embeddings_PC[start : start + batch_size] = self._embed_pieces(pieces[start : start + batch_size])
        if not normalize:
            return _mean_by_length(embeddings_PC, pieces_per_clip)
        unit_PC = nn.functional.normalize(embeddings_PC, dim=-1)
        return nn.functional.normalize(_mean_by_length(unit_PC, pieces_per_clip), dim=-1)

    def _cut(self, waveform: np.ndarray, sample_rate: int, long_audio: LongAudio) -> list[np.ndarray]:
        if waveform.ndim != 1:
            raise ValueError(f"a waveform must be mono, of shape (T,), not {waveform.shape}")
        if not len(waveform):
            raise AudioError("the clip has no samples", code="empty")
        samples = resample(
            waveform.astype(np.float32, copy=False), sample_rate, self.sample_rate, self.clips.resampler
        )
        return cut_windows(samples, self.clips.window_samples, long_audio)

    def _embed_pieces(self, pieces: Sequence[np.ndarray]) -> Tensor:
        windows = [repeat_pad(piece, self.clips.window_samples, self.clips.padding) for piece in pieces]
        mel_BFM = self.log_mel(torch.from_numpy(np.stack(windows)).to(self.device))
        return self.towers.embed_audio(mel_BFM[:, None], torch.zeros(len(pieces), dtype=torch.bool))


def _mean_by_length(embeddings_PC: Tensor, pieces_per_clip: Sequence[Sequence[np.ndarray]]) -> Tensor:
    """Average each clip's pieces, weighted by the samples they cover: (N, C)."""
    means = []
    for embeddings_WC, pieces in zip(
        embeddings_PC.split([len(pieces) for pieces in pieces_per_clip]), pieces_per_clip, strict=True
    ):
        lengths_W = torch.tensor([len(piece) for piece in pieces], device=embeddings_PC.device)
        means.append(((lengths_W / lengths_W.sum())[:, None] * embeddings_WC).sum(0))
    return torch.stack(means) if means else embeddings_PC
