"""Annotations of a rehearsal in the formats of AudioTIA's sources, and audio to caption and to evaluate on.

Scenes and sentences are those of the offline world (``mats_ray.toy``); what is rehearsed is the formats.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from mats_ray.toy.grammar import captions, question_answers
from mats_ray.toy.scenes import SceneClip, all_scenes, render_clip, scene_clips

CLOTHO, AUDIOCAPS, CLOTHO_AQA, OPENAQA, QUESTIONS = 100, 700, 60, 100, 5
"""Numbers of clips of each source, and of questions per clip of OpenAQA."""
NUM_TRIPLETS = 5 * CLOTHO + AUDIOCAPS + 5 * CLOTHO_AQA + QUESTIONS * OPENAQA
NUM_CLIPS = 8
"""Audio files that are captioned and evaluated on."""
SAMPLE_RATE, SECONDS = 44_100, 7.0
"""Rate and duration of the audio: MS-CLAP's own."""
_SEED = 20_260_229


@dataclass(frozen=True, slots=True)
class Rows:
    """What was written."""

    sources: list[dict[str, object]]
    """``data.prepare.sources`` of the configuration."""
    evaluation: Path
    """Clotho's evaluation split of the clips in ``audio``."""
    audio: Path
    texts: list[str]
    """All texts, for tokenizers."""

    @property
    def clip(self) -> Path:
        """One audio file."""
        return self.audio / "clip0000.wav"


def write_rows(folder: Path) -> Rows:
    """Write annotation files that ``mats prepare`` makes ``NUM_TRIPLETS`` triplets of, and audio."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = scene_clips(all_scenes(), CLOTHO + AUDIOCAPS + OPENAQA + NUM_CLIPS, seed=_SEED)
    clotho, clips = clips[:CLOTHO], clips[CLOTHO:]
    audiocaps, clips = clips[:AUDIOCAPS], clips[AUDIOCAPS:]
    openaqa, evaluation = clips[:OPENAQA], clips[OPENAQA:]
    development = folder / "clotho_captions_development.csv"
    texts = _write_clotho(development, clotho, "take")
    texts += _write_clotho_aqa(folder / "clotho_aqa_train.csv", clotho[:CLOTHO_AQA])
    texts += _write_audiocaps(folder / "train.csv", audiocaps)
    texts += _write_openaqa(folder / "open_ended.json", openaqa)
    _write_clotho(folder / "clotho_captions_evaluation.csv", evaluation, "clip")
    _write_audio(folder / "audio", evaluation)
    sources: list[dict[str, object]] = [
        {"source": "clotho", "path": str(development)},
        {
            "source": "clotho_aqa",
            "path": str(folder / "clotho_aqa_train.csv"),
            "companions": {"captions": str(development)},
        },
        {"source": "audiocaps", "path": str(folder / "train.csv")},
        {"source": "openaqa", "path": str(folder / "open_ended.json")},
    ]
    return Rows(sources, folder / "clotho_captions_evaluation.csv", folder / "audio", texts)


def _write_csv(path: Path, header: Sequence[str], rows: Iterator[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(header)
        writer.writerows(rows)


def _write_clotho(path: Path, clips: Sequence[SceneClip], stem: str) -> list[str]:
    five = [captions(clip.scene, clip.rng(1), 5) for clip in clips]
    header = ("file_name", *(f"caption_{place}" for place in range(1, 6)))
    _write_csv(path, header, ([f"{stem}{n:04d}.wav", *texts] for n, texts in enumerate(five)))
    return [text for texts in five for text in texts]


def _write_clotho_aqa(path: Path, clips: Sequence[SceneClip]) -> list[str]:
    """Three annotators agree on one question per clip."""
    pairs = [question_answers(clip.scene, clip.rng(2))[0] for clip in clips]
    rows = (
        [f"take{n:04d}.wav", one.question, one.answer, "yes"] for n, one in enumerate(pairs) for _ in range(3)
    )
    _write_csv(path, ("file_name", "QuestionText", "answer", "confidence"), rows)
    return [text for one in pairs for text in (one.question, one.answer)]


def _write_audiocaps(path: Path, clips: Sequence[SceneClip]) -> list[str]:
    texts = [captions(clip.scene, clip.rng(1), 1)[0] for clip in clips]
    rows = ([str(n), f"yt-{n:09d}", str(10 * n % 300), text] for n, text in enumerate(texts))
    _write_csv(path, ("audiocap_id", "youtube_id", "start_time", "caption"), rows)
    return texts


def _write_openaqa(path: Path, clips: Sequence[SceneClip]) -> list[str]:
    """A closed-ended row holds the caption of a clip, five open-ended ones ask about it."""
    items, texts = list[dict[str, str]](), list[str]()
    for number, clip in enumerate(clips):
        text = captions(clip.scene, clip.rng(1), 1)[0]
        base = {"input": "", "audio_id": f"clips/{number:06d}.flac", "dataset": "as_20k"}
        closed = {
            "task": "caption",
            "instruction": "Write an audio caption.",
            "output": f"Audio caption: {text}",
        }
        items.append(base | closed)
        for one in _questions(clip):
            items.append(base | {"task": "open-ended question", "instruction": one[0], "output": one[1]})
            texts += one
        texts.append(text)
    path.write_text(json.dumps(items), "utf-8")
    return texts


def _questions(clip: SceneClip) -> list[tuple[str, str]]:
    """Draw ``QUESTIONS`` different questions with their answers."""
    found = dict[str, str]()
    for stream in range(2, 1_000):
        found |= {one.question: one.answer for one in question_answers(clip.scene, clip.rng(stream))}
        if len(found) >= QUESTIONS:
            break
    return list(found.items())[:QUESTIONS]


def _write_audio(folder: Path, clips: Sequence[SceneClip]) -> None:
    folder.mkdir(exist_ok=True)
    for number, clip in enumerate(clips):
        samples: np.ndarray = render_clip(clip, SECONDS, SAMPLE_RATE)
        soundfile.write(folder / f"clip{number:04d}.wav", samples, SAMPLE_RATE)
