"""The toy CLAP: a tiny ``transformers.ClapModel`` trained contrastively on the toy world's audio-text pairs.

Beside matching, its towers learn to name sounds (``mats_ray.toy.tags``), as real ones did beforehand.

It plays the pretrained encoder that MATS takes as given. It sees only training scenes. Its modality gap is
small (benchmarks/demo.md): tags are read from both modalities by one head.

Shapes: N clips, F frames, M mel bands, B batch, C joint dim, K tags.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast

from mats_ray.config.model import ToyConfig
from mats_ray.models.clap.frontend import LogMel
from mats_ray.progress import Progress
from mats_ray.toy.grammar import captions
from mats_ray.toy.llm import learning_rate_scale
from mats_ray.toy.scenes import SceneClip, render_clip
from mats_ray.toy.tags import TagHead, scene_tags

CAPTIONS_PER_CLIP = 4
NUM_MELS, SPEC_SIZE = 32, 64
LEARNING_RATE = 1e-3
INITIALIZER_FACTOR = 2.0
"""Narrow layers need larger first weights than transformers' default, or few directions get used."""
MAX_GAIN_DB, MAX_BANDS, MAX_FRAMES = 6.0, 4, 12


def feature_extractor(config: ToyConfig) -> ClapFeatureExtractor:
    """Front-end settings: as many frames as the audio tower has columns, SPEC_SIZE^2 / NUM_MELS = 128."""
    samples = round(config.sample_rate * config.clip_seconds)
    columns = SPEC_SIZE * SPEC_SIZE // NUM_MELS
    return ClapFeatureExtractor(
        feature_size=NUM_MELS,
        sampling_rate=config.sample_rate,
        hop_length=-(-samples // (columns - 2)),
        max_length_s=round(config.clip_seconds),
        fft_window_size=1024,
        frequency_min=50,
        frequency_max=config.sample_rate // 2,
        truncation="rand_trunc",
        padding="repeatpad",
    )


def clap_config(tokenizer: PreTrainedTokenizerFast, *, dim: int) -> ClapConfig:
    """About 0.7 M parameters: Swin stages of width 64 and 128 on 8 x 8 patches, text tower of width 96."""
    return ClapConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 192,
            "max_position_embeddings": int(tokenizer.model_max_length) + 2,
            "pad_token_id": tokenizer.pad_token_id,
            "layer_norm_eps": 1e-5,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "projection_dim": dim,
            "initializer_factor": INITIALIZER_FACTOR,
        },
        audio_config={
            "num_mel_bins": NUM_MELS,
            "spec_size": SPEC_SIZE,
            "patch_size": 8,
            "patch_stride": [8, 8],
            "patch_embeds_hidden_size": 64,
            "hidden_size": 128,
            "depths": [2, 1],
            "num_attention_heads": [4, 8],
            "num_hidden_layers": 2,
            "window_size": 4,
            "mlp_ratio": 2.0,
            "hidden_dropout_prob": 0.0,
            "projection_dim": dim,
            "initializer_factor": INITIALIZER_FACTOR,
        },
        projection_dim=dim,
        initializer_factor=INITIALIZER_FACTOR,
    )


def train_clap(
    directory: Path,
    clips: Sequence[SceneClip],
    tokenizer: PreTrainedTokenizerFast,
    config: ToyConfig,
    *,
    dim: int,
    seed: int,
) -> None:
    """Train on (clip, caption) pairs and save a directory that ``load_clap`` reads.

    Args:
        directory: Made if absent.
        clips: Of training scenes only.
        tokenizer: Saved with the model.
        config: Steps, batch size, audio format.
        dim: Of the joint space.
        seed: Of weights and order.
    """
    extractor = feature_extractor(config)
    mels_NFM = log_mels(clips, LogMel.from_settings(extractor.to_dict()), config)
    texts = [captions(clip.scene, clip.rng(1), CAPTIONS_PER_CLIP) for clip in clips]
    model = _fit(mels_NFM, texts, scene_tags([clip.scene for clip in clips]), tokenizer, config, dim, seed)
    model.eval().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    extractor.save_pretrained(directory)


def _fit(
    mels_NFM: Tensor,
    texts: list[list[str]],
    tags_NK: Tensor,
    tokenizer: PreTrainedTokenizerFast,
    config: ToyConfig,
    dim: int,
    seed: int,
) -> ClapModel:
    """Train on matching and on tags; every step takes other captions of its clips."""
    model, head = _fresh(clap_config(tokenizer, dim=dim), seed=seed)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *head.parameters()], lr=LEARNING_RATE, weight_decay=0.05, fused=True
    )
    rng = np.random.default_rng(seed)
    with Progress("toy CLAP", total=config.clap_steps, unit="step") as progress:
        for step in range(config.clap_steps):
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * learning_rate_scale(step, config.clap_steps)
            rows = rng.choice(len(texts), config.clap_batch_size, replace=False)
            batch = [texts[row][rng.integers(CAPTIONS_PER_CLIP)] for row in rows]
            text_BC, audio_BC = _embed(model, tokenizer, batch, augment(mels_NFM[rows], rng))
            loss = _contrastive_loss(model, text_BC, audio_BC) + head(audio_BC, text_BC, tags_NK[rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            progress.advance(note=f"loss {loss.item():.3f}")
    return model


def log_mels(clips: Sequence[SceneClip], front_end: LogMel, config: ToyConfig) -> Tensor:
    """Render clips and return their log-mel spectrograms (N, F, M)."""

    def one(clip: SceneClip) -> Tensor:
        return front_end(torch.from_numpy(render_clip(clip, config.clip_seconds, config.sample_rate))[None])

    mels = []
    with Progress("toy sounds", total=len(clips), unit="clip") as progress, ThreadPoolExecutor() as threads:
        for mel_1FM in threads.map(one, clips):  # NumPy and torch let go of the interpreter while they work
            mels.append(mel_1FM)
            progress.advance()
    return torch.cat(mels)


def augment(mels_BFM: Tensor, rng: np.random.Generator) -> Tensor:
    """Change each clip's level; mask a band and a stretch of time (SpecAugment): few clips go further."""
    augmented_BFM = mels_BFM.clone()
    num_frames, num_mels = mels_BFM.shape[1:]
    for mel_FM in augmented_BFM:
        mel_FM.add_(rng.uniform(-MAX_GAIN_DB, MAX_GAIN_DB))
        mean = mel_FM.mean()
        band, start = rng.integers(num_mels - MAX_BANDS), rng.integers(num_frames - MAX_FRAMES)
        mel_FM[:, band : band + rng.integers(1, MAX_BANDS)] = mean
        mel_FM[start : start + rng.integers(2, MAX_FRAMES)] = mean
    return augmented_BFM


def _fresh(config: ClapConfig, *, seed: int) -> tuple[ClapModel, TagHead]:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        return ClapModel(config).train(), TagHead(config.projection_dim)


def _embed(
    model: ClapModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], mels_BFM: Tensor
) -> tuple[Tensor, Tensor]:
    """Text and audio embeddings of pairs, both (B, C) and of unit length."""
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    text_BC = _features(model.get_text_features(**tokens))
    return text_BC, _features(model.get_audio_features(input_features=mels_BFM[:, None]))


def _contrastive_loss(model: ClapModel, text_BC: Tensor, audio_BC: Tensor) -> Tensor:
    """Symmetric cross-entropy over the batch's similarities (CLIP, CLAP)."""
    logits_BB = model.logit_scale_t.exp() * text_BC @ audio_BC.T
    target_B = torch.arange(len(text_BC))
    return (cross_entropy(logits_BB, target_B) + cross_entropy(logits_BB.T, target_B)) / 2


def _features(output: object) -> Tensor:
    """Unwrap features: transformers 5 returns them inside an output object."""
    return normalize(output if isinstance(output, Tensor) else output.pooler_output, dim=-1)  # pyright: ignore[reportAttributeAccessIssue]
