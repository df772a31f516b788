"""The toy CLAP: a tiny ``transformers.ClapModel`` trained contrastively on the toy world's audio-text pairs.

Besides matching, its towers learn to classify sounds (``mats_ray.toy.tags``), like pretrained real ones.

It stands for the pretrained encoder that MATS builds on. It is trained on training scenes only. Its modality
gap is that of real ones (benchmarks/demo.md), from the same causes (Liang et al., 2022): the towers start in
narrow cones of their own, a low temperature lets them stay there, and some captions do not fit their clip.

Shapes: F frames, M mel bands, B batch, C joint dim, D width of a tower, K tags.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast

from mats_ray.config.toy import ToyConfig
from mats_ray.config.train import ScheduleConfig
from mats_ray.models.clap.frontend import LogMel
from mats_ray.models.startup import quiet_transformers
from mats_ray.progress import Progress
from mats_ray.toy.fitting import first_weights, one_ahead, optimizers, update
from mats_ray.toy.grammar import captions
from mats_ray.toy.recordings import Recordings
from mats_ray.toy.scenes import Scene, SceneClip, other_scene
from mats_ray.toy.tags import TagHead, scene_tags

NUM_MELS, SPEC_SIZE = 32, 64
MATRIX_LEARNING_RATE, LEARNING_RATE = 1e-2, 3e-3
"""Learning rates: Muon's for the layers' matrices, AdamW's for all else."""
SCHEDULE = ScheduleConfig(type="cosine", warmup_steps=40)
MATCHING_WEIGHT = 0.5
"""Weight of the contrastive loss, against that of tags: pairs are easier to memorise than tags."""
LOGIT_SCALE = 25.0
"""Inverse temperature of the contrastive loss, fixed."""
OTHER_CAPTIONS = 0.3
"""Share of captions that name less than the clip holds, or something else, as captions from the web do."""
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
    model, heads = _fresh(clap_config(tokenizer, dim=dim), seed=seed)
    named = [*model.named_parameters(), *heads.named_parameters()]
    both = optimizers(named, matrices=MATRIX_LEARNING_RATE, others=LEARNING_RATE)
    rng, count = np.random.default_rng(seed), len(batches)
    with Progress("toy CLAP", total=count, unit="step") as progress:
        spectrograms = one_ahead(augment(recordings.log_mels(clips), rng) for clips in batches)
        for step, (clips, mels_BFM) in enumerate(zip(batches, spectrograms, strict=True)):
            described = [described_scene(clip) for clip in clips]
            texts = [captions(scene, clip.rng(1), 1)[0] for scene, clip in zip(described, clips, strict=True)]
            tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            loss = _loss(model, heads, tokens, mels_BFM, (described, [clip.scene for clip in clips]))
            for module in (model, heads):
                module.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            update(both, step=step, num_steps=count, schedule=SCHEDULE)
            progress.advance(note=f"loss {loss.item():.3f}")
    return model


def described_scene(clip: SceneClip) -> Scene:
    """What the caption of a training clip is about: mostly the clip's scene."""
    rng = clip.rng(5)
    return other_scene(clip.scene, rng) if rng.random() < OTHER_CAPTIONS else clip.scene


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


def _fresh(config: ClapConfig, *, seed: int) -> tuple[ClapModel, nn.ModuleList]:
    """Return a model, and heads for the tags of text and audio."""
    with first_weights(seed):
        model = ClapModel(config).train()
        for scale in (model.logit_scale_t, model.logit_scale_a):
            scale.data.fill_(math.log(LOGIT_SCALE))  # no part of the loss: it stays
        widths = (model.text_model.config.hidden_size, model.audio_model.config.hidden_size)
        return model, nn.ModuleList(TagHead(width) for width in widths)


def _loss(
    model: ClapModel,
    heads: nn.ModuleList,
    tokens: Mapping[str, Tensor],
    mels_BFM: Tensor,
    scenes: tuple[Sequence[Scene], Sequence[Scene]],
) -> Tensor:
    """Matching, and tags of what is in the text and in the audio."""
    text_BD = model.text_model(tokens["input_ids"], tokens["attention_mask"]).pooler_output
    audio_BD = model.audio_model(input_features=mels_BFM[:, None]).pooler_output
    matching = _contrastive_loss(
        normalize(model.text_projection(text_BD), dim=-1), normalize(model.audio_projection(audio_BD), dim=-1)
    )
    pooled = zip(heads, (text_BD, audio_BD), scenes, strict=True)
    return MATCHING_WEIGHT * matching + sum(head(one_BD, scene_tags(of)) for head, one_BD, of in pooled)


def _contrastive_loss(text_BC: Tensor, audio_BC: Tensor) -> Tensor:
    """Symmetric cross-entropy over the batch's similarities (CLIP, CLAP)."""
    logits_BB = LOGIT_SCALE * text_BC @ audio_BC.T
    target_B = torch.arange(len(text_BC))
    return (cross_entropy(logits_BB, target_B) + cross_entropy(logits_BB.T, target_B)) / 2
