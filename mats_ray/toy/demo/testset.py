"""Audio test sets: clips as WAV files, and a benchmark of captions and questions about them.

Training texts tell of the scenes of the first set, as of those of the paper's benchmarks; its audio is new.
Scenes of the second set are in no text and no audio that anything was trained on. Shapes: N records.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from mats_ray.config import RunConfig
from mats_ray.evaluate.benchmark import Benchmark, Record, Resources, Sample, Scores
from mats_ray.evaluate.measure import Measure
from mats_ray.progress import Progress
from mats_ray.tasks import Task, instruction_for
from mats_ray.toy.grammar import (
    QA,
    QuestionKind,
    answer_is_right,
    canonical_caption,
    captions,
    question_answers,
    sounds_named,
)
from mats_ray.toy.scenes import Scene, SceneClip, render_clip
from mats_ray.toy.world import READ_STREAM, split_of

UNSCORED: QuestionKind = "count"
"""How many sounds there are: all novel scenes are pairs, so "two" is right without hearing them."""
KIND, CAPTION = "kind", "caption"
"""Category of a sample, and its value where the sample is a caption."""


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


def samples_of(clips: Sequence[TestClip]) -> list[Sample]:
    """List the samples of clips: a caption of each, then every clip's questions."""
    samples = [
        Sample(
            id=f"{clip.path.stem}/{CAPTION}",
            audio=(clip.path.name,),
            references=(canonical_caption(clip.scene),),
            question=instruction_for(Task.CAPTION),
            categories={KIND: CAPTION},
        )
        for clip in clips
    ]
    return samples + [
        Sample(
            id=f"{clip.path.stem}/{number}",
            audio=(clip.path.name,),
            references=(qa.answer,),
            question=instruction_for(Task.QA, qa.question),
            categories={KIND: qa.kind},
        )
        for clip in clips
        for number, qa in enumerate(clip.questions)
    ]


def score_by_grammar(records: Sequence[Record], _: Resources) -> Scores:
    """Share of captions that name all sounds of the scene and no other; share of questions answered right."""
    return Scores(measures=_measures(records))


def _measures(records: Sequence[Record]) -> dict[str, Measure]:
    right_N = np.array([_is_right(one) for one in records], dtype=np.float64)
    caption_N = np.array([one.sample.categories[KIND] == CAPTION for one in records])
    return {
        "caption_all_sounds": Measure.mean(np.where(caption_N, right_N, np.nan)),
        "questions_right": Measure.mean(np.where(caption_N, np.nan, right_N)),
    }


def shares_right(samples: Sequence[Sample], texts: Sequence[str]) -> dict[str, float]:
    """Score texts in the order of their samples: the value of each measure."""
    records = [Record(sample=one, answer=text) for one, text in zip(samples, texts, strict=True)]
    everything = np.arange(len(records))
    return {name: one.of(everything) for name, one in _measures(records).items()}


def _is_right(record: Record) -> bool:
    kind, reference = record.sample.categories[KIND], record.sample.references[0]
    if kind == CAPTION:
        return sounds_named(record.answer) == sounds_named(reference)
    return answer_is_right(kind, record.answer, reference)  # pyright: ignore[reportArgumentType]


BENCHMARK = Benchmark(
    name="toy",
    title="Held-out clips of the toy world",
    paper="none",
    license="Apache-2.0",
    source="rendered by mats_ray.toy",
    files=(),
    split="drawn with the run's seed",
    size=0,
    read=lambda _: iter(()),  # samples are made, not read
    score=score_by_grammar,
)
