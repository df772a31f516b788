"""The demo: the whole loop on one machine, offline, with real Ray Data, Ray Train, DeepSpeed and peft.

Text triplets -> CLAP -> Santa memory -> mapper + LoRA trained on text only -> captions and answers for
*audio* of scenes neither model ever saw, compared with six other systems: a table, metrics.json, report.html.
"""

import importlib.metadata
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mats_ray.config import RunConfig
from mats_ray.data.embedding.on_ray import embed
from mats_ray.data.santa_memory import build_memory
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.toy import systems
from mats_ray.toy.ablations import NO_NOISE, SUPERVISED, train_ablations
from mats_ray.toy.captioned import CaptionsAndAnswers, caption_test_set
from mats_ray.toy.grammar import answer_is_right, canonical_caption, caption_is_right
from mats_ray.toy.peak_memory import PeakMemory
from mats_ray.toy.report import ReportClip, ReportContent, write_report
from mats_ray.toy.testset import Score, TestClip, score, write_test_set
from mats_ray.toy.world import ensure_world, split_of, text_triplets
from mats_ray.train.metrics_logger import read_records
from mats_ray.train.on_ray import train

T = TypeVar("T")
VERSIONS = ("mats-ray", "ray", "torch", "deepspeed", "transformers", "peft")
NUM_REPORT_CLIPS = 10


class Stages:
    """Announces and times the stages, one after the other."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._announce = announce

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Run one stage."""
        self._announce(f"== {name}")
        started = time.monotonic()
        result = work()
        self.seconds[name] = round(time.monotonic() - started, 1)
        return result


def run_demo(config: RunConfig, *, announce: Callable[[str], None]) -> dict[str, Any]:
    """Run everything below ``config.output_dir``; what a key names is used as it is. Ray must be up.

    Args:
        config: With a toy section.
        announce: Called with the name of each stage.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        MATSError: A stage failed.
    """
    assert config.toy is not None
    out = Path(config.output_dir).expanduser()
    stages = Stages(announce)
    with PeakMemory() as peak:
        stages.run("toy world: sounds, CLAP, texts, LLaMA", lambda: ensure_world(config))
        stages.run("embed texts (Ray Data, CLAP)", lambda: config.data.embedded or embed(config))
        stages.run("Santa memory", lambda: config.memory.path or build_memory(config))
        stages.run("train on text (Ray Train, DeepSpeed)", lambda: train(config))
        clips = stages.run("render held-out audio", lambda: write_test_set(config, out / "audio"))
        outputs = stages.run(
            "caption and question audio (Ray Data)", lambda: caption_test_set(config, clips, out)
        )
        encoder = AudioEncoder.from_pretrained(config.model_dir)
        models = stages.run(
            "train without noise, and on audio, to compare", lambda: train_ablations(config, encoder.clap)
        )
        scores, vectors = stages.run(
            "compare systems", lambda: _compare(config, clips, outputs, encoder, models)
        )
    metrics = _metrics(scores, vectors, stages, peak)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")
    write_report(out / "report.html", _report_content(config, metrics, vectors, clips, outputs))
    return metrics


def _compare(
    config: RunConfig,
    clips: list[TestClip],
    outputs: CaptionsAndAnswers,
    encoder: AudioEncoder,
    models: dict[str, Path],
) -> tuple[dict[str, Score], dict[str, np.ndarray]]:
    """Score every system on the same clips and questions; return the embeddings for the picture, too."""
    method = Path(config.model_dir)
    audio_NC = systems.encode_clips(encoder, clips)
    text_NC = systems.encode_descriptions(encoder.clap, clips)
    moved_NC = systems.apply_santa(method, audio_NC)
    scores = {
        "text_noise_santa": score(clips, *outputs),
        "text_noise": systems.evaluate(method, audio_NC, clips),
        "text_santa": systems.evaluate(models[NO_NOISE], moved_NC, clips),
        "text_only": systems.evaluate(models[NO_NOISE], audio_NC, clips),
        "audio_supervised": systems.evaluate(models[SUPERVISED], audio_NC, clips),
        "text_embedding": systems.evaluate(method, text_NC, clips),
        "floor": systems.majority_baseline(clips, text_triplets(config, split_of(config))),
    }
    return scores, {"text": text_NC, "audio": audio_NC, "moved": moved_NC}


def _metrics(
    scores: dict[str, Score], vectors: dict[str, np.ndarray], stages: Stages, peak: PeakMemory
) -> dict[str, Any]:
    before, after = (systems.modality_gap(vectors[key], vectors["text"]) for key in ("audio", "moved"))
    versions = {name: importlib.metadata.version(name) for name in VERSIONS}
    return {
        "systems": {name: asdict(one) for name, one in scores.items()},
        "modality_gap": {"before": before, "after_santa": after},
        "wall_seconds": {**stages.seconds, "total": round(sum(stages.seconds.values()), 1)},
        "peak_memory_gb": round(peak.gigabytes, 2),
        "versions": {"python": platform.python_version(), **versions},
    }


def _report_content(
    config: RunConfig,
    metrics: dict[str, Any],
    vectors: dict[str, np.ndarray],
    clips: list[TestClip],
    outputs: CaptionsAndAnswers,
) -> ReportContent:
    out = Path(config.output_dir).expanduser()
    runs = {config.name: out, NO_NOISE: out / "systems" / NO_NOISE, SUPERVISED: out / "systems" / SUPERVISED}
    curves = {
        name: [r for _, r in sorted(read_records(f"{folder}/runs/{name}/metrics.jsonl").items())]
        for name, folder in runs.items()
    }
    return ReportContent(
        metrics=metrics,
        curves=curves,
        text_NC=vectors["text"],
        audio_NC=vectors["audio"],
        moved_NC=vectors["moved"],
        clips=tuple(_report_clip(*row) for row in zip(clips[:NUM_REPORT_CLIPS], *outputs, strict=False)),
    )


def _report_clip(clip: TestClip, caption: str, answers: list[str]) -> ReportClip:
    return ReportClip(
        path=clip.path,
        truth=canonical_caption(clip.scene),
        caption=caption,
        caption_right=caption_is_right(caption, clip.scene),
        answers=tuple(
            (qa.question, qa.answer, text, answer_is_right(qa.kind, text, qa.answer))
            for qa, text in zip(clip.questions, answers, strict=True)
        ),
    )
