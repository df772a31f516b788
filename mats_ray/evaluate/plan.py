"""A benchmark planned: its samples and the files of their audio, before anything is computed."""

import logging
from dataclasses import dataclass

from mats_ray.config.evaluate import BenchmarkInput
from mats_ray.data.audio_listing import list_audio
from mats_ray.errors import ConfigError, abbreviated
from mats_ray.evaluate.audio_match import AudioMatches, match_audio
from mats_ray.evaluate.benchmark import Benchmark, find_benchmark
from mats_ray.evaluate.samples import Annotations, read_samples

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PlannedBenchmark:
    """One benchmark, its samples and their audio."""

    input: BenchmarkInput
    benchmark: Benchmark
    annotations: Annotations
    matches: AudioMatches | None
    """None: answers are given in a file."""

    @classmethod
    def plan(cls, one: BenchmarkInput) -> "PlannedBenchmark":
        """Read annotations, list audio, and match them.

        Raises:
            ConfigError: There is no such benchmark.
            DataError: Annotations or audio cannot be used.
        """
        benchmark = find_benchmark(one.name)
        annotations = read_samples(benchmark, one.annotations)
        audio = one.audio or (one.annotations if not benchmark.files else None)
        matches = None
        if one.answers is None:
            if audio is None:
                raise ConfigError(f"{one.name} needs a folder of audio, or a file of answers")
            matches = match_audio(annotations.samples, list_audio(audio), where=audio)
        planned = cls(input=one, benchmark=benchmark, annotations=annotations, matches=matches)
        planned.warn()
        return planned

    def warn(self) -> None:
        """Log what is not as published."""
        name, samples, benchmark = self.input.name, self.annotations.samples, self.benchmark
        if len(samples) != benchmark.size:
            logger.warning(
                "%s: %d samples in %s, the published split (%s) has %d: another set, not to be compared",
                *(name, len(samples), self.input.annotations, benchmark.split, benchmark.size),
            )
        for reason, count in self.annotations.left_out.items():
            logger.warning("%s: %d records left out, %s", name, count, reason)
        if self.annotations.first_rejected:
            logger.warning("%s: the first record not usable: %s", name, self.annotations.first_rejected)
        if self.matches is None:
            return
        absent = [one.id for one in samples if one.id not in self.matches.objects]
        if absent:
            logger.warning(
                "%s: %d of %d samples have no audio, which counts as wrong (%d names fit several files): %s",
                *(name, len(absent), len(samples), len(self.matches.ambiguous), abbreviated(absent)),
            )
