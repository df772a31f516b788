"""Audio test sets: clips as WAV files, with their questions and reference answers.

Training texts tell of the scenes of the first set, as of those of the paper's benchmarks; its audio is new.
Scenes of the second set are in no text and no audio that anything was trained on.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from mats_ray.config import RunConfig
from mats_ray.progress import Progress
from mats_ray.toy.demo.scores import Score
from mats_ray.toy.grammar import (
    QA,
    QuestionKind,
    answer_is_right,
    caption_is_right,
    captions,
    question_answers,
)
from mats_ray.toy.scenes import Scene, SceneClip, render_clip
from mats_ray.toy.world import READ_STREAM, split_of

UNSCORED: QuestionKind = "count"
"""How many sounds there are: all novel scenes are pairs, so "two" is right without hearing them."""


@dataclass(frozen=True, slots=True)
class TestClip:
    """One file, its scene and its questions."""

    __test__ = False  # not a test class, whatever pytest makes of its name

    path: Path
    scene: Scene
    description: str
    """A varied caption: input of the text-embedding system in place of the audio."""
    questions: tuple[QA, ...]


def write_test_set(config: RunConfig, folder: Path, stream: int = READ_STREAM) -> list[TestClip]:
    """Render clips into a folder, which then holds exactly them; files that are right already stay.

    Args:
        config: With a toy section: the number of clips, their format.
        folder: Made if absent.
        stream: Which clips: of scenes that training texts tell of, novel ones, or either for validation.
    """
    assert config.toy is not None
    drawn = split_of(config).clips(stream, count=config.toy.num_test_clips, seed=config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:04d}.wav" for index in range(len(drawn))]
    for stale in set(folder.glob("*.wav")).difference(paths):
        stale.unlink()
    with Progress("test clips", total=len(drawn), unit="clip") as progress:
        for path, clip in zip(paths, drawn, strict=True):
            samples, wav = render_clip(clip, config.toy.clip_seconds, config.toy.sample_rate), io.BytesIO()
            soundfile.write(wav, samples, config.toy.sample_rate, subtype="PCM_16", format="WAV")
            if not path.is_file() or path.read_bytes() != wav.getvalue():  # a new file is captioned anew
                path.write_bytes(wav.getvalue())
            progress.advance()
    return [_test_clip(path, clip) for path, clip in zip(paths, drawn, strict=True)]


def _test_clip(path: Path, clip: SceneClip) -> TestClip:
    description = captions(clip.scene, clip.rng(1), 1)[0]
    questions = question_answers(clip.scene, clip.rng(2))
    scored = tuple(qa for qa in questions if qa.kind != UNSCORED)
    return TestClip(path.resolve(), clip.scene, description, scored)


def score(clips: Sequence[TestClip], generated: Sequence[str], answers: Sequence[Sequence[str]]) -> Score:
    """Judge captions and answers, both in the order of the clips."""
    right = [
        sum(answer_is_right(qa.kind, text, qa.answer) for qa, text in zip(clip.questions, texts, strict=True))
        for clip, texts in zip(clips, answers, strict=True)
    ]
    return Score(
        tuple(generated),
        np.array([caption_is_right(text, clip.scene) for clip, text in zip(clips, generated, strict=True)]),
        np.array(right),
        np.array([len(clip.questions) for clip in clips]),
    )
