"""The demo: the whole loop on one machine, offline, with real Ray Data, Ray Train, DeepSpeed and peft.

Text triplets -> CLAP -> Santa memory -> mapper + LoRA trained on text -> captions and answers for *audio*.
The report is written when the method's own result is there, and again when other systems' results are.
"""

import importlib.metadata
import json
import os
import platform
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mats_ray.config import RunConfig
from mats_ray.config.model import known_variance
from mats_ray.data.embedding.on_ray import embed
from mats_ray.data.santa_memory import build_memory
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.process_memory import ProcessMemory
from mats_ray.toy.demo import systems
from mats_ray.toy.demo.ablations import NO_NOISE, SUPERVISED, train_ablations
from mats_ray.toy.demo.gap import caption_spread, measure_toy_gap
from mats_ray.toy.demo.results import (
    FOLDER,
    MEASURES,
    SystemResult,
    answer_on_ray,
    estimate_tree,
    record_answers,
)
from mats_ray.toy.demo.stages import Stages, claim_folder
from mats_ray.toy.demo.testset import TestClip, samples_of, write_test_set
from mats_ray.toy.grammar import canonical_caption, caption_is_right
from mats_ray.toy.report.page import ReportClip, ReportContent, write_report
from mats_ray.toy.report.results import METHOD
from mats_ray.toy.world import NOVEL_STREAM, READ_STREAM, TEXT_STREAM, ensure_world, split_of, text_triplets
from mats_ray.train.metrics_logger import read_records
from mats_ray.train.on_ray import train
from mats_ray.types import Triplet

MEMORY_SAMPLE_SECONDS = 5.0
VERSIONS = ("mats-ray", "ray", "torch", "deepspeed", "transformers", "peft")
NUM_REPORT_CLIPS = 8
AUDIO_FOLDERS = {"read": ("audio", READ_STREAM), "novel": ("audio_novel", NOVEL_STREAM)}
"""Folder and clips of each test set: scenes that training texts tell of, and scenes that they do not."""


class Demo:
    """What the stages find out, one after the other.

    Args:
        config: With a toy section.
        out: Folder of all results.
    """

    def __init__(self, config: RunConfig, out: Path) -> None:
        self.config, self.out = config, out
        self.encoder = AudioEncoder.from_pretrained(config.model_dir)
        self.clips: dict[str, list[TestClip]] = {}
        self.embeddings: dict[str, dict[str, np.ndarray]] = {}
        """Of each test set: "text", "audio" and "moved", each (N, C)."""
        self.results: dict[str, dict[str, SystemResult]] = {}
        """By system and test set."""

    @cached_property
    def answerer(self) -> Answerer:
        """The method's model."""
        return Answerer.from_pretrained(self.config.model_dir)

    @cached_property
    def training(self) -> list[Triplet]:
        """The triplets that the method was trained on."""
        return text_triplets(self.config, split_of(self.config))

    @cached_property
    def text_alone(self) -> dict[str, Any]:
        """What text alone tells of the gap."""
        scenes = split_of(self.config).clips(TEXT_STREAM, count=200, seed=self.config.seed)
        return caption_spread(scenes, lambda texts: self.encoder.clap.encode_text(texts).cpu().numpy())

    def render(self, name: str) -> None:
        """Write a test set."""
        folder, stream = AUDIO_FOLDERS[name]
        self.clips[name] = write_test_set(self.config, self.out / folder, stream)

    def answer_audio(self, name: str) -> None:
        """Have the method answer a test set's audio, by the batch job."""
        folder = self.out / FOLDER / METHOD / name
        self.results.setdefault(METHOD, {})[name] = answer_on_ray(self.config, self.clips[name], folder)

    def measure(self, name: str) -> None:
        """Embed a test set, and score what the method's model says about it and about its text."""
        clips = self.clips[name]
        audio_NC, text_NC = (
            systems.encode_clips(self.encoder, clips),
            systems.encode_descriptions(self.encoder.clap, clips),
        )
        moved_NC = systems.apply_santa(Path(self.config.model_dir), audio_NC)
        self.embeddings[name] = {"text": text_NC, "audio": audio_NC, "moved": moved_NC}
        if name not in self.results.get(METHOD, {}):
            self._answer(METHOD, name, self.answerer, moved_NC)
        self._answer("text_noise", name, self.answerer, audio_NC)
        self._answer("text_embedding", name, self.answerer, text_NC)
        self._record("floor", name, systems.majority_answers(samples_of(clips), self.training))

    def _answer(self, system: str, name: str, answerer: Answerer, embeddings_NC: np.ndarray) -> None:
        clips = self.clips[name]
        samples = samples_of(clips)
        self._record(
            system, name, systems.answer_samples(answerer, embeddings_NC, clips, samples, name=system)
        )

    def _record(self, system: str, name: str, texts: list[str]) -> None:
        folder = self.out / FOLDER / system / name
        found = record_answers(self.clips[name], texts, folder, system=system)
        self.results.setdefault(system, {})[name] = found

    def compare(self, models: dict[str, Path]) -> None:
        """Score the systems that are models of their own, on both test sets."""
        answerers = {key: Answerer.from_pretrained(model) for key, model in models.items()}
        for name, of in self.embeddings.items():
            self._answer("text_santa", name, answerers[NO_NOISE], of["moved"])
            self._answer("text_only", name, answerers[NO_NOISE], of["audio"])
            self._answer("audio_supervised", name, answerers[SUPERVISED], of["audio"])

    def write(self, stages: Stages, peak: ProcessMemory) -> dict[str, Any]:
        """Write numbers and report; returns the numbers."""
        metrics = self._metrics(stages, peak)
        (self.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")
        write_report(self.out / "report.html", self._report_content(metrics))
        return metrics

    def _metrics(self, stages: Stages, peak: ProcessMemory) -> dict[str, Any]:
        seconds = stages.seconds
        versions = {name: importlib.metadata.version(name) for name in VERSIONS}
        return {
            "seed": self.config.seed,
            "systems": {
                system: {name: one.as_dict() for name, one in of.items()}
                for system, of in self.results.items()
            },
            "method_minus": self._differences(),
            "gap": self._gap(),
            "wall_seconds": {**seconds, "total": round(sum(seconds.values()), 1)},
            "peak_memory_gb": round(peak.total_gb, 2),
            "versions": {"python": platform.python_version(), **versions},
        }

    def _differences(self) -> dict[str, Any]:
        """The method less each other system, paired by clip, with the 95 % interval."""
        tree: dict[str, Any] = {}
        for system, of in self.results.items():
            for name, other in of.items():
                for measure in MEASURES if system != METHOD else ():
                    numbers = estimate_tree(self.results[METHOD][name].minus(other, measure))
                    tree.setdefault(system, {}).setdefault(name, {})[measure] = numbers
        return tree

    def _gap(self) -> dict[str, Any]:
        return {
            **{
                name: measure_toy_gap(
                    of["audio"], of["text"], of["moved"], [clip.scene for clip in self.clips[name]]
                )
                for name, of in self.embeddings.items()
            },
            "text_alone": self.text_alone,
        }

    def _report_content(self, metrics: dict[str, Any]) -> ReportContent:
        config, out = self.config, self.out
        runs = {
            config.name: out,
            NO_NOISE: out / "systems" / NO_NOISE,
            SUPERVISED: out / "systems" / SUPERVISED,
        }
        curves = {
            name: [r for _, r in sorted(read_records(f"{folder}/runs/{name}/metrics.jsonl").items())]
            for name, folder in runs.items()
        }
        of = self.embeddings["read"]
        return ReportContent(
            metrics=metrics,
            curves={name: records for name, records in curves.items() if records},
            text_NC=of["text"],
            audio_NC=of["audio"],
            moved_NC=of["moved"],
            noise_variance=known_variance(config.model.noise.variance),
            clips=tuple(
                _report_clip(clip, method, without)
                for clip, method, without in zip(
                    self.clips["read"][:NUM_REPORT_CLIPS],
                    self.results[METHOD]["read"].captions,
                    self.results["text_noise"]["read"].captions,
                    strict=False,
                )
            ),
        )


def run_demo(
    config: RunConfig,
    *,
    announce: Callable[[str], None],
    first_result: Callable[[dict[str, Any]], None],
    compare: bool = True,
) -> dict[str, Any]:
    """Run everything below ``config.output_dir``; what a key names is used as it is. Ray must be up.

    Args:
        config: With a toy section.
        announce: Called with a line about each stage.
        first_result: Called with what ``metrics.json`` holds once the first report is written.
        compare: Train the systems that the method is compared with, and read novel scenes.

    Returns:
        What ``metrics.json`` holds in the end.

    Raises:
        MATSError: The folder holds another demo, or a stage failed.
    """
    out = claim_folder(config)
    stages = Stages(out, announce)
    with ProcessMemory(os.getpid(), interval=MEMORY_SAMPLE_SECONDS) as peak:
        demo = _train_and_caption(config, stages, out)
        stages.run("the same without Santa, and from text", lambda: demo.measure("read"))
        metrics = demo.write(stages, peak)
        first_result(metrics)
        if compare:
            _compare(demo, stages)
            metrics = demo.write(stages, peak)
    return metrics


def _train_and_caption(config: RunConfig, stages: Stages, out: Path) -> Demo:
    """The method, from nothing to captions and answers."""
    stages.run("the world: sounds, texts, a small CLAP and a small LLaMA", lambda: ensure_world(config))
    stages.run("embed texts with CLAP (Ray Data)", lambda: config.data.embedded or embed(config))
    stages.run("Santa memory", lambda: config.memory.path or build_memory(config))
    stages.run("train on text alone (Ray Train, DeepSpeed)", lambda: train(config))
    demo = Demo(config, out)
    stages.run("render audio", lambda: demo.render("read"))
    stages.run("caption and question audio (Ray Data)", lambda: demo.answer_audio("read"))
    return demo


def _compare(demo: Demo, stages: Stages) -> None:
    """The other systems, and the second test set."""
    models = stages.run(
        "train without noise, and on audio", lambda: train_ablations(demo.config, demo.encoder.clap)
    )

    def novel() -> None:
        demo.render("novel")
        demo.measure("novel")

    stages.run("scenes that no text told of", novel)
    stages.run("compare all systems", lambda: demo.compare(models))


def _report_clip(clip: TestClip, caption: str, without_santa: str) -> ReportClip:
    captions = (caption, without_santa)
    return ReportClip(
        path=clip.path,
        truth=canonical_caption(clip.scene),
        captions=tuple((text, caption_is_right(text, clip.scene)) for text in captions),
    )
