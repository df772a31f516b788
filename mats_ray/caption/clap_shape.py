"""Window, operations and weights of the configured CLAP by arithmetic from shapes, for ``mats plan``.

A folder's ``config.json`` is read; a hub id of PE-AV is known by its name. Every other CLAP has HTS-AT as its
audio tower, and a window by the width of its space. Loading one would take torch. CLAP computes in float32.
"""

import json
import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mats_ray.config.model import CLAPConfig
from mats_ray.errors import ModelError

HTSAT_FLOPS = 1.2e10
"""Operations of HTS-AT per window: a Swin-T over 256 x 256 mel frames; Swin-T takes 4.5e9 multiply-adds at
224 x 224 (Liu et al. 2021, table 1): times (256 / 224)^2, times two."""
HTSAT_WEIGHTS_GB = 0.64
"""Size of both towers of MS-CLAP 2023: HTS-AT, GPT-2 and two projections; LAION's with RoBERTa has 0.61."""
WINDOW_SECONDS = {512: 10.0}
"""Window of a CLAP by the width of its space: LAION's; any other is taken for MS-CLAP 2023."""
MSCLAP_WINDOW_SECONDS = 7.0

PE_AUDIO = {"pe_audio", "pe_audio_video"}
PE_AUDIO_WINDOW_SECONDS = 10.0
SAMPLE_RATE = 48_000
PUBLISHED = re.compile(r"pe-(?:av|a-frame)-(small|base|large)(?:-16-frame)?", re.IGNORECASE)
"""Names of PE-AV and PE-A-Frame on the hub."""
TOWERS = {"small": (768, 12, 6, 2_048), "base": (1_024, 16, 8, 2_752), "large": (1_792, 28, 14, 4_800)}
"""Width, layers, heads and MLP width of their audio transformers (the configurations of PE-A-Frame)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CLAPShape:
    """What a plan needs to know of a CLAP."""

    window_seconds: float
    flops: float
    """Operations of the audio tower per window."""
    weights_gb: float
    """10^9 bytes of both towers."""


@dataclass(frozen=True, slots=True)
class PEAudioShape:
    """Shape of a PE-AV model's audio and text part."""

    width: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    head_dim: int = 128
    codec_width: int = 64
    strides: tuple[int, ...] = (2, 8, 10, 12)
    codec_dim: int = 128
    text_width: int = 1_024
    text_layers: int = 22
    text_mlp_dim: int = 2_624
    vocab_size: int = 50_368

    @property
    def layer_weights(self) -> int:
        """Weights of the audio transformer's matrices, as many heads for keys as for queries."""
        return self.num_layers * self.width * (4 * self.num_heads * self.head_dim + 3 * self.mlp_dim)

    @property
    def num_weights(self) -> int:
        """Number of weights of all matrices of both towers; biases and norms are left out."""
        stages = [self.codec_width * 2**stage for stage in range(len(self.strides))]
        codec = sum(24 * c**2 + 4 * c**2 * stride for c, stride in zip(stages, self.strides, strict=True))
        last = 2 * stages[-1]
        codec += 7 * self.codec_width + 3 * last**2 + last * self.codec_dim + self.codec_dim * self.width
        around = 7 * self.width**2 + self.width * self.text_width  # two convolutions, output, head
        text = self.text_layers * self.text_width * (4 * self.text_width + 3 * self.text_mlp_dim)
        text += (self.vocab_size + self.text_width) * self.text_width
        return codec + around + self.layer_weights + text

    def flops(self, num_samples: int) -> float:
        """Count the operations of a window.

        Codec: per stage and sample of its input, 24 c^2 multiply-adds of three residual units and 4 c^2 of
        the strided convolution. Transformer: ``2 W P + 4 L heads head_dim P^2``, P frames and class token.
        """
        codec, length, c = 7.0 * self.codec_width * num_samples, float(num_samples), self.codec_width
        for stride in self.strides:
            codec += 28 * c**2 * length
            length, c = length / stride, 2 * c
        codec += length * (3 * c**2 + c * self.codec_dim + self.codec_dim * self.width)
        positions = length + 1
        matrices = (self.layer_weights + 7 * self.width**2) * positions
        attention = 2 * self.num_layers * self.num_heads * self.head_dim * positions**2
        return 2 * (codec + matrices + attention)


def clap_shape(config: CLAPConfig) -> CLAPShape:
    """Return the shape of the configured CLAP.

    Raises:
        ModelError: A folder's ``config.json`` is of PE-AV and does not hold a shape.
    """
    shape = _pe_audio_shape(config.ref)
    if shape is None:
        window = WINDOW_SECONDS.get(config.dim, MSCLAP_WINDOW_SECONDS)
        return CLAPShape(window_seconds=window, flops=HTSAT_FLOPS, weights_gb=HTSAT_WEIGHTS_GB)
    return CLAPShape(
        window_seconds=PE_AUDIO_WINDOW_SECONDS,
        flops=shape.flops(round(PE_AUDIO_WINDOW_SECONDS * SAMPLE_RATE)),
        weights_gb=4 * shape.num_weights / 1e9,
    )


def _pe_audio_shape(ref: str | None) -> PEAudioShape | None:
    """Return the shape of PE-AV, None where the reference is of another CLAP or unknown."""
    path = Path(ref or "").expanduser() / "config.json"
    if ref and path.is_file():
        return _read_shape(path)
    name = PUBLISHED.fullmatch((ref or "").rstrip("/").rsplit("/", 1)[-1])
    return PEAudioShape(*TOWERS[name[1].lower()]) if name else None


def _read_shape(path: Path) -> PEAudioShape | None:
    """Read ``config.json`` itself, as for the language model (``train.plan``)."""
    try:
        tree: dict[str, Any] = json.loads(path.read_text("utf-8"))
        shape = _shape_in(tree) if tree.get("model_type") in PE_AUDIO else None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"no shape of a CLAP can be read from {path}: {error!r}") from error
    if shape is not None and not _is_sensible(shape):
        raise ModelError(f"no shape of a CLAP can be read from {path}: it holds {shape}")
    return shape


def _shape_in(tree: dict[str, Any]) -> PEAudioShape:
    """Read the shape; a key that is not there has transformers' default."""
    audio = tree.get("audio_video_config", tree).get("audio_config") or {}
    text, codec = tree.get("text_config") or {}, audio.get("dac_config") or {}
    return PEAudioShape(
        width=audio.get("hidden_size", 1_792),
        num_layers=audio.get("num_hidden_layers", 6),
        num_heads=audio.get("num_attention_heads", 14),
        mlp_dim=audio.get("intermediate_size", 4_800),
        head_dim=audio.get("head_dim", 128),
        codec_width=codec.get("encoder_hidden_size", 64),
        strides=tuple(codec.get("downsampling_ratios", (2, 8, 10, 12))),
        codec_dim=codec.get("codebook_dim", 128),
        text_width=text.get("hidden_size", 1_024),
        text_layers=text.get("num_hidden_layers", 22),
        text_mlp_dim=text.get("intermediate_size", 2_624),
        vocab_size=text.get("vocab_size", 50_368),
    )


def _is_sensible(shape: PEAudioShape) -> bool:
    numbers = [getattr(shape, field.name) for field in fields(shape) if field.name != "strides"]
    whole = all(isinstance(size, int) and 0 < size < 2**20 for size in (*numbers, *shape.strides))
    return whole and 0 < len(shape.strides) < 10 and math.prod(shape.strides) <= SAMPLE_RATE
