"""The systems the demo compares: what each answers about the same held-out clips.

Shapes: N clips, S samples, C CLAP dim.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mats_ray.data.audio import read_audio
from mats_ray.evaluate.benchmark import Sample
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.models.clap import CLAP
from mats_ray.progress import Progress
from mats_ray.tasks import Task
from mats_ray.toy.demo.testset import CAPTION, KIND, UNSCORED, TestClip
from mats_ray.toy.grammar import kind_of
from mats_ray.types import Triplet

BATCH_SIZE = 64


def encode_clips(encoder: AudioEncoder, clips: Sequence[TestClip]) -> np.ndarray:
    """Embed the clips' audio, (N, C)."""
    return encoder.encode([read_audio(clip.path) for clip in clips])


def encode_descriptions(clap: CLAP, clips: Sequence[TestClip]) -> np.ndarray:
    """Embed the clips' descriptions, (N, C): a perfect encoder, in the modality of training."""
    return clap.encode_text([clip.description for clip in clips]).cpu().numpy()


def answer_samples(
    answerer: Answerer,
    embeddings_NC: np.ndarray,
    clips: Sequence[TestClip],
    samples: Sequence[Sample],
    *,
    name: str = "the toy",
) -> list[str]:
    """Answer samples from embeddings as they are; returns texts in the order of the samples.

    Args:
        answerer: Of the model.
        embeddings_NC: One per clip; audio as it is, moved by Santa, or text.
        clips: Of the embeddings.
        samples: Captions of and questions about the clips.
        name: Of the model, for the progress.
    """
    row_of = {clip.path.name: row for row, clip in enumerate(clips)}
    rows_S = np.array([row_of[sample.audio[0]] for sample in samples])
    texts: list[str] = []
    with Progress(f"evaluate {name}", total=len(samples), unit="answer") as progress:
        for start in range(0, len(samples), BATCH_SIZE):
            batch = samples[start : start + BATCH_SIZE]
            embeddings = embeddings_NC[rows_S[start : start + BATCH_SIZE]]
            texts += [a.text for a in answerer.answer(embeddings, [s.question for s in batch], moved=True)]
            progress.advance(len(batch))
    return texts


def majority_answers(samples: Sequence[Sample], training: Sequence[Triplet]) -> list[str]:
    """Give the most frequent training answers, one for captions, one for questions, whatever the audio."""
    caption = _most_frequent([row.answer for row in training if row.task is Task.CAPTION])
    scored = [row for row in training if row.task is Task.QA and kind_of(row.id) != UNSCORED]
    answer = _most_frequent([row.answer for row in scored])
    return [caption if sample.categories[KIND] == CAPTION else answer for sample in samples]


def apply_santa(model: Path, audio_NC: np.ndarray) -> np.ndarray:
    """Audio embeddings after Santa, (N, C)."""
    with torch.inference_mode():
        return Answerer.from_pretrained(model).move(audio_NC).cpu().numpy()


def _most_frequent(answers: Sequence[str]) -> str:
    return Counter(answers).most_common(1)[0][0]
