"""The systems the demo compares, on the same questions about the same held-out clips.

Shapes: N clips, C CLAP dim.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mats_ray.data.audio import read_audio
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.models.clap import CLAP
from mats_ray.progress import Progress
from mats_ray.tasks import Task, instruction_for
from mats_ray.toy.demo.testset import UNSCORED, Score, TestClip, score
from mats_ray.toy.grammar import kind_of
from mats_ray.types import Triplet

BATCH_SIZE = 64


def encode_clips(encoder: AudioEncoder, clips: Sequence[TestClip]) -> np.ndarray:
    """Embed the clips' audio, (N, C)."""
    return encoder.encode([read_audio(clip.path) for clip in clips])


def encode_descriptions(clap: CLAP, clips: Sequence[TestClip]) -> np.ndarray:
    """Embed the clips' descriptions, (N, C): a perfect encoder, in the modality of training."""
    return clap.encode_text([clip.description for clip in clips]).cpu().numpy()


def evaluate(model: Path, embeddings_NC: np.ndarray, clips: Sequence[TestClip]) -> Score:
    """Caption and question every clip with one model directory, see ``answer_clips``."""
    return answer_clips(Answerer.from_pretrained(model), embeddings_NC, clips, name=model.parent.name)


def answer_clips(
    answerer: Answerer, embeddings_NC: np.ndarray, clips: Sequence[TestClip], *, name: str = "the toy"
) -> Score:
    """Caption and question every clip with a loaded model, from embeddings as they are.

    Args:
        answerer: Of the model.
        embeddings_NC: One per clip; audio as it is, moved by Santa, or text.
        clips: With their questions.
        name: Of the model, for the progress.
    """
    rows = prompts_of(clips)
    texts: list[str] = []
    with Progress(f"evaluate {name}", total=len(rows), unit="answer") as progress:
        for start in range(0, len(rows), BATCH_SIZE):
            batch = rows[start : start + BATCH_SIZE]
            embeddings = embeddings_NC[[i for i, _ in batch]]
            texts += [a.text for a in answerer.answer(embeddings, [text for _, text in batch], moved=True)]
            progress.advance(len(batch))
    return score_texts(clips, texts)


def prompts_of(clips: Sequence[TestClip]) -> list[tuple[int, str]]:
    """Index of a clip and an instruction: a caption of each, then every clip's questions."""
    rows = [(i, instruction_for(Task.CAPTION)) for i in range(len(clips))]
    return rows + [
        (i, instruction_for(Task.QA, qa.question)) for i, clip in enumerate(clips) for qa in clip.questions
    ]


def score_texts(clips: Sequence[TestClip], texts: Sequence[str]) -> Score:
    """Score the texts generated for ``prompts_of`` the clips, in its order."""
    answers = iter(texts[len(clips) :])
    return score(clips, texts[: len(clips)], [[next(answers) for _ in clip.questions] for clip in clips])


def majority_baseline(clips: Sequence[TestClip], training: Sequence[Triplet]) -> Score:
    """Score the most frequent training answers, one for captions, one for questions, whatever the audio."""
    caption = _most_frequent([row.answer for row in training if row.task is Task.CAPTION])
    scored = [row for row in training if row.task is Task.QA and kind_of(row.id) != UNSCORED]
    answer = _most_frequent([row.answer for row in scored])
    return score(clips, [caption] * len(clips), [[answer] * len(clip.questions) for clip in clips])


def apply_santa(model: Path, audio_NC: np.ndarray) -> np.ndarray:
    """Audio embeddings after Santa, (N, C)."""
    with torch.inference_mode():
        return Answerer.from_pretrained(model).move(audio_NC).cpu().numpy()


def _most_frequent(answers: Sequence[str]) -> str:
    return Counter(answers).most_common(1)[0][0]
