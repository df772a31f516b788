"""The audio test set: clips of held-out scenes as WAV files, with their questions and reference answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from mats_ray.config import RunConfig
from mats_ray.progress import Progress
from mats_ray.toy.grammar import QA, answer_is_right, caption_is_right, captions, question_answers
from mats_ray.toy.scenes import Scene, SceneClip, render_clip
from mats_ray.toy.world import TEST_STREAM, split_of


@dataclass(frozen=True, slots=True)
class TestClip:
    """One file, its scene and its questions."""

    __test__ = False  # not a test class, whatever pytest makes of its name

    path: Path
    scene: Scene
    description: str
    """A varied caption: input of the text-embedding system in place of the audio."""
    questions: tuple[QA, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Result of a system on a test set."""

    caption_all_sounds: float
    """Share of captions that name all sounds of the scene and no other."""
    questions_right: float
    num_clips: int
    num_questions: int


def write_test_set(config: RunConfig, folder: Path) -> list[TestClip]:
    """Render the held-out clips into a folder, which then holds exactly them."""
    assert config.toy is not None
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.wav"):
        stale.unlink()
    drawn = split_of(config).clips(TEST_STREAM, count=config.toy.num_test_clips, seed=config.seed)
    clips: list[TestClip] = []
    with Progress("test clips", total=len(drawn), unit="clip") as progress:
        for index, clip in enumerate(drawn):
            path = folder / f"{index:04d}.wav"
            samples = render_clip(clip, config.toy.clip_seconds, config.toy.sample_rate)
            soundfile.write(path, samples, config.toy.sample_rate, subtype="PCM_16")
            clips.append(_test_clip(path, clip))
            progress.advance()
    return clips


def _test_clip(path: Path, clip: SceneClip) -> TestClip:
    description = captions(clip.scene, clip.rng(1), 1)[0]
    return TestClip(path.resolve(), clip.scene, description, tuple(question_answers(clip.scene, clip.rng(2))))


def score(clips: Sequence[TestClip], generated: Sequence[str], answers: Sequence[Sequence[str]]) -> Score:
    """Judge captions and answers, both in the order of the clips."""
    captions_right = [caption_is_right(text, clip.scene) for clip, text in zip(clips, generated, strict=True)]
    right = [
        answer_is_right(qa.kind, text, qa.answer)
        for clip, texts in zip(clips, answers, strict=True)
        for qa, text in zip(clip.questions, texts, strict=True)
    ]
    return Score(float(np.mean(captions_right)), float(np.mean(right)), len(clips), len(right))
