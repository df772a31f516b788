"""The interface of every CLAP: texts and waveforms in, embeddings of one joint space out.

Shapes: N clips, B batch, P pieces of clips, W pieces of one clip, T samples, C joint space.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize as unit

from mats_ray.errors import AudioError, ModelError
from mats_ray.models.clap.frontend import LongAudio, cut_windows, quantize_int16
from mats_ray.models.clap.resample import resample
from mats_ray.models.clap.settings import ClipSettings
from mats_ray.models.device import on_device
from mats_ray.types import CLAPIdentity


class CLAP(ABC):
    """A frozen CLAP: (N, C) float32 embeddings of texts and of audio, L2-normalised by default.

    Results are deterministic, and do not depend on what an input was batched with.

    Attributes:
        identity: Family and checkpoint; stored beside every embedding.
        dim: C, width of the joint space.
        sample_rate: Sample rate of the audio tower, in Hz; other rates are resampled.
        window_seconds: Length of the audio tower's input.

    Example:
        >>> clap = load_clap("toy/clap")  # doctest: +SKIP
        >>> clap.encode_text(["a dog barks"]) @ clap.encode_audio([waveform], 44100).T  # doctest: +SKIP
    """

    def __init__(self, *, clips: ClipSettings, identity: CLAPIdentity) -> None:
        self.clips = clips
        self.identity = identity
        self.dim = identity.dim
        self.sample_rate = clips.sample_rate
        self.window_seconds = clips.window_samples / clips.sample_rate

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Move the model; embeddings come out on the same device."""

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str], *, batch_size: int = 64, normalize: bool = True) -> Tensor:
        """Embed texts: (N, C) float32, in the order given.

        Args:
            texts: Any number of texts; those too long for the tower are cut as the family's reference does.
            batch_size: Texts per forward pass; they are sorted by length first, to spend little on padding.
            normalize: Scale each embedding to length 1.

        Raises:
            ModelError: There is no tokenizer, or it does not fit; or an embedding is not finite.
        """
        embeddings_NC = self._embed_texts(texts, batch_size=batch_size)
        if unusable := (~_is_usable(embeddings_NC)).nonzero().flatten().tolist():
            text = texts[unusable[0]][:80]
            raise ModelError(f"{self.identity}: the embedding of the text {text!r} is not finite")
        return unit(embeddings_NC, dim=-1) if normalize else embeddings_NC

    @torch.inference_mode()
    # by default cuDNN rounds float32 to TF32, and a GPU's embeddings would not be a CPU's
    @torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    def encode_audio(
        self,
        waveforms: Sequence[np.ndarray],
        sample_rate: int,
        *,
        names: Sequence[str] | None = None,
        long_audio: LongAudio = "windows",
        batch_size: int = 16,
        normalize: bool = True,
        before_batch: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Embed clips: (N, C) float32.

        Args:
            waveforms: Mono clips (T,) float32 in [-1, 1], each of any length but zero.
            sample_rate: Their rate in Hz.
            names: Their names in error messages; by default "clip 1" and so on.
            long_audio: Part of a clip longer than ``window_seconds`` to embed: "windows" (the mean over fixed
                windows, each weighted by the seconds it covers), "first" or "center" (one window; of LAION's
                fusion models, the whole clip and one chunk of each third).
            batch_size: Windows per forward pass.
            normalize: Scale each embedding to length 1 (and each window's, before they are averaged).
            before_batch: Called before each forward pass; its exceptions end the call.

        Raises:
            AudioError: A clip is empty ("empty"), or its samples or embedding are not finite ("not_finite").
        """
        names = names or [f"clip {number}" for number in range(1, len(waveforms) + 1)]
        named = zip(waveforms, names, strict=True)
        pieces_per_clip = [self._cut(clip, sample_rate, long_audio, name=name) for clip, name in named]
        pieces = [piece for pieces in pieces_per_clip for piece in pieces]
        batches: list[Tensor] = []
        for some in (pieces[start : start + batch_size] for start in range(0, len(pieces), batch_size)):
            before_batch()
            batches.append(self._embed_pieces(some, center=long_audio == "center"))
        embeddings_PC = torch.cat(batches) if batches else torch.empty(0, self.dim)
        _check_audio(embeddings_PC, pieces_per_clip, names)
        if not normalize:
            return _mean_by_length(embeddings_PC, pieces_per_clip)
        return unit(_mean_by_length(unit(embeddings_PC, dim=-1), pieces_per_clip), dim=-1)

    def _cut(
        self, waveform: np.ndarray, sample_rate: int, long_audio: LongAudio, *, name: str
    ) -> list[np.ndarray]:
        if waveform.ndim != 1:
            raise ValueError(f"a waveform must be mono, of shape (T,), not {waveform.shape}")
        if not len(waveform):
            raise AudioError(f"{name} has no samples", code="empty")
        samples = resample(
            waveform.astype(np.float32, copy=False), sample_rate, self.sample_rate, self.clips.resampler
        )
        if not np.isfinite(samples).all():
            raise AudioError(f"{name} has samples that are NaN, infinite or overflow", code="not_finite")
        if self.clips.quantize_int16:
            samples = quantize_int16(samples)
        return self._pieces(samples, long_audio)

    def _pieces(self, samples: np.ndarray, long_audio: LongAudio) -> list[np.ndarray]:
        """Return the pieces of a clip at CLAP's rate that are embedded, none longer than a window."""
        return cut_windows(samples, self.clips.window_samples, self.sample_rate, long_audio)

    @abstractmethod
    def _embed_texts(self, texts: Sequence[str], *, batch_size: int) -> Tensor:
        """Embed texts, not normalised: (N, C)."""

    @abstractmethod
    def _embed_pieces(self, pieces: Sequence[np.ndarray], *, center: bool) -> Tensor:
        """Embed a batch of what ``_pieces`` returned, not normalised: (B, C)."""


def _is_usable(embeddings_NC: Tensor) -> Tensor:
    """Whether each embedding has a direction: (N,) bool. NaN, infinity, overflow and zero have none."""
    length_N = embeddings_NC.norm(dim=-1)
    return length_N.isfinite() & (length_N > 0)


def _check_audio(
    embeddings_PC: Tensor, pieces_per_clip: Sequence[Sequence[np.ndarray]], names: Sequence[str]
) -> None:
    """Refuse a clip with a piece that has no usable embedding.

    Raises:
        AudioError: Names the first such clip (code "not_finite").
    """
    usable_per_clip = _is_usable(embeddings_PC).split([len(pieces) for pieces in pieces_per_clip])
    for usable_W, pieces, name in zip(usable_per_clip, pieces_per_clip, names, strict=True):
        if not usable_W.all():
            peak = max(float(np.abs(piece).max()) for piece in pieces)
            raise AudioError(
                f"{name}: its CLAP embedding is not finite; its samples reach {peak:.3g}, of [-1, 1]",
                code="not_finite",
            )


def _mean_by_length(embeddings_PC: Tensor, pieces_per_clip: Sequence[Sequence[np.ndarray]]) -> Tensor:
    """Average each clip's pieces, weighted by the samples they cover: (N, C)."""
    per_clip = embeddings_PC.split([len(pieces) for pieces in pieces_per_clip])
    means = []
    for embeddings_WC, pieces in zip(per_clip, pieces_per_clip, strict=True):
        lengths_W = on_device([len(piece) for piece in pieces], embeddings_PC.device)
        means.append(((lengths_W / lengths_W.sum())[:, None] * embeddings_WC).sum(0))
    return torch.stack(means) if means else embeddings_PC
