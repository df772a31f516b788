"""A small CLAP fitted to ESC-10's folds 1 to 3 and real captions: a ``ClapModel`` that ``load_clap`` reads.

Both towers start from nothing, so they learn two things at once: to match, a clip with every caption of its
class, and to name the class, by one linear head for both. The head's target for a clip is the output
of a CNN (``teacher.py``). Fold 4 is never read here.

Shapes: N clips, B batch, F frames, M mel bands, C joint dim, K classes.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, normalize, one_hot
from transformers import ClapConfig, ClapModel, PreTrainedTokenizerFast

from examples.esc10.classes import NAMES
from examples.esc10.sounds import FRONT_END, NUM_MELS, SPEC_SIZE, augmented
from examples.esc10.teacher import fit_teacher
from mats_ray.config.train import ScheduleConfig
from mats_ray.toy.clap import clap_config as toy_config
from mats_ray.toy.fitting import first_weights, optimizers, update

DIM, BATCH_SIZE = 128, 32
MATRIX_LEARNING_RATE, LEARNING_RATE = 1e-2, 2e-3
"""Learning rates: of Muon for the layers' matrices, which a third of the steps suffice with; of AdamW."""
SCHEDULE = ScheduleConfig(type="cosine", warmup_steps=40)
SOFTNESS = 2.0
"""Temperature of the teacher's distribution: classes of low probability count, too (Hinton et al., 2015)."""
SCALE = 8.0
"""Unit vectors are small inputs for a classifier."""


def clap_config(tokenizer: PreTrainedTokenizerFast) -> ClapConfig:
    """The toy's with finer spectrograms, one layer more and transformers' first weights: 0.9 M parameters."""
    config = toy_config(tokenizer, dim=DIM)
    config.audio_config.num_mel_bins, config.audio_config.spec_size = NUM_MELS, SPEC_SIZE
    config.audio_config.depths = [2, 2]
    config.audio_config.initializer_factor = config.initializer_factor = 1.0
    return config


def fit_clap(
    directory: Path,
    mels_NFM: Tensor,
    kinds_N: Sequence[int],
    texts: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerFast,
    *,
    steps: int,
    seed: int,
) -> None:
    """Train and save.

    Args:
        directory: Made if absent.
        mels_NFM: Training clips.
        kinds_N: Their classes.
        texts: Texts of each class.
        tokenizer: Saved with the model.
        steps: Number of training steps.
        seed: Seed of weights and order.
    """
    with first_weights(seed):
        model, head = ClapModel(clap_config(tokenizer)).train(), nn.Linear(DIM, len(NAMES))
    started, rng = time.monotonic(), np.random.default_rng(seed)
    teacher = fit_teacher(mels_NFM, torch.tensor(kinds_N), seed=seed)
    print(f"teacher: {time.monotonic() - started:.0f} s")
    named = [*model.named_parameters(), *head.named_parameters()]
    both = optimizers(named, matrices=MATRIX_LEARNING_RATE, others=LEARNING_RATE)
    labels_NK = one_hot(torch.tensor(kinds_N), len(NAMES)).float()
    for step in range(steps):
        rows = rng.choice(len(mels_NFM), BATCH_SIZE, replace=False)
        mels_BFM, labels_BK = augmented(mels_NFM[rows], labels_NK[rows], rng)
        kinds_B = rng.integers(len(NAMES), size=BATCH_SIZE)
        batch = [texts[kind][rng.integers(len(texts[kind]))] for kind in kinds_B]
        with torch.no_grad():
            teacher_BK = teacher(mels_BFM)
        loss = _loss(model, head, (mels_BFM, labels_BK, teacher_BK), (batch, kinds_B), tokenizer)
        model.zero_grad(), head.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        update(both, step=step, num_steps=steps, schedule=SCHEDULE)
        if step % 100 == 99:
            print(f"CLAP step {step + 1}/{steps}: loss {loss.item():.3f}, {time.monotonic() - started:.0f} s")
    for part in (model.eval(), tokenizer, FRONT_END):
        part.save_pretrained(directory)


def _loss(
    model: ClapModel,
    head: nn.Linear,
    audio: tuple[Tensor, Tensor, Tensor],
    text: tuple[list[str], np.ndarray],
    tokenizer: PreTrainedTokenizerFast,
) -> Tensor:
    mels_BFM, audio_labels_BK, teacher_BK = audio
    tokens = tokenizer(text[0], padding=True, truncation=True, return_tensors="pt")
    audio_BC = _unit(model.get_audio_features(input_features=mels_BFM[:, None]))
    text_BC = _unit(model.get_text_features(**tokens))
    text_labels_BK = one_hot(torch.from_numpy(text[1]), len(NAMES)).float()
    names = _distillation_loss(head(SCALE * audio_BC), teacher_BK) + cross_entropy(
        head(SCALE * text_BC), text_labels_BK
    )
    logits_BB = model.logit_scale_a.exp().clamp(max=30) * audio_BC @ text_BC.T
    same_BB = audio_labels_BK @ text_labels_BK.T
    return names + (_match(logits_BB, same_BB) + _match(logits_BB.T, same_BB.T)) / 2


def _distillation_loss(student_BK: Tensor, teacher_BK: Tensor) -> Tensor:
    """Divergence from the teacher's softened distribution, scaled back to the size of a cross-entropy."""
    student_BK, teacher_BK = ((one / SOFTNESS).log_softmax(1) for one in (student_BK, teacher_BK))
    return SOFTNESS**2 * kl_div(student_BK, teacher_BK, log_target=True, reduction="batchmean")


def _match(logits_BB: Tensor, same_BB: Tensor) -> Tensor:
    """Cross-entropy with every text of a clip's class; a clip without one in the batch does not count."""
    total_B = same_BB.sum(1, keepdim=True)
    return cross_entropy(logits_BB, same_BB / total_B.clamp(min=1e-6))


def _unit(output: object) -> Tensor:
    """Transformers 5 returns features inside an output object."""
    return normalize(output if isinstance(output, Tensor) else output.pooler_output, dim=-1)
