"""Logs and scores of the demo's systems, by the machinery of ``mats evaluate``.

OUT/evaluation/<system>/<test set>/   as ``evaluate.log`` has it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mats_ray.config import RunConfig
from mats_ray.config.evaluate import BenchmarkInput, EvaluateConfig
from mats_ray.data.audio_listing import list_audio
from mats_ray.evaluate.answering import answer_with_model
from mats_ray.evaluate.audio_match import match_audio
from mats_ray.evaluate.benchmark import Resources
from mats_ray.evaluate.embedders import load_embedder
from mats_ray.evaluate.header import Header
from mats_ray.evaluate.log import EvaluationLog, Row
from mats_ray.evaluate.measure import Estimate, difference
from mats_ray.evaluate.plan import PlannedBenchmark
from mats_ray.evaluate.samples import Annotations
from mats_ray.evaluate.scoring import ScoredRows, recordings, write_scores
from mats_ray.models.directory import read_info
from mats_ray.toy.demo.testset import BENCHMARK, CAPTION, KIND, TestClip, samples_of

MEASURES = ("caption_all_sounds", "questions_right")
FOLDER = "evaluation"
_RESOURCES = Resources(embedder=lambda: load_embedder("clap", clap=None))  # scores of the toy need none


@dataclass(frozen=True, kw_only=True)
class SystemResult:
    """What a system answered on a test set, and its scores."""

    scored: ScoredRows
    tree: dict[str, Any]
    """``scores.json``."""

    @classmethod
    def of(cls, log: EvaluationLog) -> "SystemResult":
        """Score a log that has its answers."""
        scored = ScoredRows.of(log, BENCHMARK, _RESOURCES)
        return cls(scored=scored, tree=write_scores(log, scored))

    @property
    def captions(self) -> list[str]:
        """Captions in the order of the clips."""
        return [row.answer for row in self.scored.rows if row.sample.categories[KIND] == CAPTION]

    def value(self, measure: str) -> float:
        """Return the value of a measure."""
        return self.tree["measures"][measure]["value"]

    def minus(self, other: "SystemResult", measure: str) -> Estimate:
        """Compare with another system on the same clips, paired."""
        first, second = (one.scored.scores.measures[measure] for one in (self, other))
        return difference(first, second, recordings(self.scored.rows))

    def as_dict(self) -> dict[str, Any]:
        """As in ``metrics.json``."""
        estimates = {measure: self.tree["measures"][measure] for measure in MEASURES}
        return {
            **{measure: one["value"] for measure, one in estimates.items()},
            **{f"{measure}_error": one["error"] for measure, one in estimates.items()},
            "num_clips": estimates["caption_all_sounds"]["n"],
            "num_questions": estimates["questions_right"]["n"],
        }


def answer_on_ray(config: RunConfig, clips: Sequence[TestClip], folder: Path) -> SystemResult:
    """Caption every clip and answer its questions by the batch job, and score.

    Args:
        config: Configuration of the demo, whose model directory is used.
        clips: All clips of one folder.
        folder: Of the log.
    """
    audio, samples = str(clips[0].path.parent), samples_of(clips)
    one = BenchmarkInput(name=BENCHMARK.name, annotations=config.toy_dir, audio=audio)
    planned = PlannedBenchmark(
        input=one,
        benchmark=BENCHMARK,
        annotations=Annotations(samples=samples),
        matches=match_audio(samples, list_audio(audio), where=audio),
    )
    settings = EvaluateConfig(
        out=str(folder),
        benchmarks=[one],
        prompt="none",
        caption=config.caption,
        generation=config.generation_override,
    )
    log = EvaluationLog(str(folder))
    answer_with_model(planned, log, settings, read_info(config.model_dir))
    return SystemResult.of(log)


def record_answers(
    clips: Sequence[TestClip], texts: Sequence[str], folder: Path, *, system: str
) -> SystemResult:
    """Log answers that were computed in this process, and score them.

    Args:
        clips: The clips.
        texts: In the order of ``samples_of`` the clips.
        folder: Of the log.
        system: Its name.
    """
    log = EvaluationLog(str(folder))
    log.claim(
        Header(
            benchmark=BENCHMARK.name,
            version=BENCHMARK.version,
            model={"id": system},
            decoding="the model's own",
            prompt={"mode": "none", "prefix": "", "example": samples_of(clips[:1])[0].question},
            annotations="",
            audio=str(clips[0].path.parent),
        )
    )
    path_of = {clip.path.name: str(clip.path) for clip in clips}
    log.write(
        [
            Row(
                sample=sample,
                prompt=sample.question,
                status="ok" if text.strip() else "empty",
                audio=path_of[sample.audio[0]],
                answer=text,
            )
            for sample, text in zip(samples_of(clips), texts, strict=True)
        ]
    )
    return SystemResult.of(log)


def estimate_tree(estimate: Estimate) -> dict[str, float]:
    """Write a difference as in ``metrics.json``."""
    return {"mean": estimate.value, "low": estimate.low, "high": estimate.high}
