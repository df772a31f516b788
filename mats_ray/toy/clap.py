"""The toy CLAP: a tiny ``transformers.ClapModel`` trained contrastively on the toy world's audio-text pairs.

Besides matching, its towers learn to classify sounds (``mats_ray.toy.tags``), like pretrained real ones.

It stands for the pretrained encoder that MATS builds on. It is trained on training scenes only. Its modality
gap is small (benchmarks/demo.md): one head classifies tags of both modalities.

Shapes: N clips, F frames, M mel bands, B batch, C joint dim, K tags.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast

from mats_ray.config.toy import ToyConfig
from mats_ray.config.train import ScheduleConfig
from mats_ray.models.clap.frontend import LogMel
from mats_ray.models.startup import quiet_transformers
from mats_ray.progress import Progress
from mats_ray.toy.grammar import captions
from mats_ray.toy.recordings import Recordings
from mats_ray.toy.scenes import SceneClip
from mats_ray.toy.tags import TagHead, scene_tags
from mats_ray.train.optim import learning_rate

NUM_MELS, SPEC_SIZE = 32, 64
LEARNING_RATE, SCHEDULE = 3e-3, ScheduleConfig(type="cosine", warmup_steps=40)
MATCHING_WEIGHT = 0.5
"""Weight of the contrastive loss, against that of tags: pairs are easier to memorise than tags."""
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
        directory: Created if absent.
        clips: One batch after the other, of training scenes only.
        tokenizer: Saved with the model.
        config: Batch size, audio format.
        dim: Width of the joint space.
        seed: Seed of weights, recordings and masks.
    """
    extractor = feature_extractor(config)
    recordings = Recordings.render(LogMel.from_settings(extractor.to_dict()), config, seed=seed)
    size = config.clap_batch_size
    batches = [clips[start : start + size] for start in range(0, len(clips), size)]
    model = _fit(batches, recordings, tokenizer, dim, seed)
    with quiet_transformers():
        model.eval().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    extractor.save_pretrained(directory)


def _fit(
    batches: Sequence[Sequence[SceneClip]],
    recordings: Recordings,
    tokenizer: PreTrainedTokenizerFast,
    dim: int,
    seed: int,
) -> ClapModel:
    """Train on matching and on tags; every clip is new."""
    model, head = _fresh(clap_config(tokenizer, dim=dim), seed=seed)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *head.parameters()], lr=LEARNING_RATE, weight_decay=0.05, fused=True
    )
    rng, count = np.random.default_rng(seed), len(batches)
    with Progress("toy CLAP", total=count, unit="step") as progress:
        for step, clips in enumerate(batches):
            lr = learning_rate(step, lr=LEARNING_RATE, num_steps=count, schedule=SCHEDULE)
            optimizer.param_groups[0]["lr"] = lr
            texts = [captions(clip.scene, clip.rng(1), 1)[0] for clip in clips]
            text_BC, audio_BC = _embed(model, tokenizer, texts, augment(recordings.log_mels(clips), rng))
            tags_BK = scene_tags([clip.scene for clip in clips])
            matching = _contrastive_loss(model, text_BC, audio_BC)
            loss = MATCHING_WEIGHT * matching + head(audio_BC, text_BC, tags_BK)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            progress.advance(note=f"loss {loss.item():.3f}")
    return model


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
