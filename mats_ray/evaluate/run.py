"""An evaluation: read all annotations, answer every sample by the batch job, score, report.

Everything that can be wrong with annotations, audio and model is found before the first answer.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pyarrow as pa

from mats_ray.caption.on_ray import caption
from mats_ray.caption.output import PartStore
from mats_ray.caption.rows import ERROR, Provenance
from mats_ray.config.evaluate import BenchmarkInput, EvaluateConfig
from mats_ray.data.audio_files import list_audio
from mats_ray.errors import ConfigError, abbreviated
from mats_ray.evaluate.audio_match import AudioMatches, match_audio
from mats_ray.evaluate.benchmark import Benchmark, PromptMode, Resources, Sample, find_benchmark
from mats_ray.evaluate.embedders import load_embedder
from mats_ray.evaluate.given_answers import read_answers
from mats_ray.evaluate.header import Header
from mats_ray.evaluate.judge import VERDICTS, export_requests, read_verdicts, request_verdicts, scores_of
from mats_ray.evaluate.log import ANSWERS, EvaluationLog, Row
from mats_ray.evaluate.metrics.judge import judged
from mats_ray.evaluate.samples import Annotations, read_samples
from mats_ray.evaluate.scoring import score_log
from mats_ray.models.directory import ModelInfo, read_info
from mats_ray.storage import exists, read_bytes, write_bytes

logger = logging.getLogger(__name__)

Cluster = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class PlannedBenchmark:
    """A benchmark with its samples and their audio, before anything is computed."""

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


def evaluate(config: EvaluateConfig, *, cluster: Cluster = nullcontext) -> dict[str, dict[str, Any]]:
    """Answer and score every benchmark of a configuration, and write the report.

    Answers that are there already are not computed again, so an evaluation that was killed is continued.

    Args:
        config: What to evaluate.
        cluster: Starts Ray; entered once, and only if answers are missing.

    Returns:
        ``scores.json`` by name of the benchmark.

    Raises:
        ConfigError: A name, model or folder is not valid, or the folder holds another evaluation.
        DataError: Annotations or audio cannot be used, or too many answers are errors.
        ModelError: The model cannot be loaded.
        EndpointError: An embedder or judge refuses.
    """
    info = _model(config)
    planned = [PlannedBenchmark.plan(one) for one in config.benchmarks]
    with _entered_once(cluster) as enter:
        logs = [_answered(one, config, info, enter) for one in planned]
    for one, log in zip(planned, logs, strict=True):
        if one.input.verdicts is not None:
            read_verdicts(one.input.verdicts)  # checked before it replaces anything
            write_bytes(log.path(VERDICTS), read_bytes(one.input.verdicts))
    names = [one.input.name for one in planned]
    return score_all(dict(zip(names, logs, strict=True)), embedder=config.embedder, judge=config.judge)


def score_all(
    logs: Mapping[str, EvaluationLog], *, embedder: str, judge: str | None = None
) -> dict[str, dict[str, Any]]:
    """Score logs that have their answers, with a judge's replies where one is given.

    Raises:
        ConfigError: The embedder or a library that a measure needs is not there.
        EndpointError: An embedder or judge refuses.
    """
    results = dict[str, dict[str, Any]]()
    for name, log in logs.items():
        benchmark = find_benchmark(log.header().benchmark)
        if benchmark.score is judged:
            rows = log.rows()
            export_requests(log, rows)
            if judge is not None:
                request_verdicts(log, rows, judge)
        logger.info("scoring %s", name)
        results[name] = score_log(log, benchmark, resources_of(log, embedder))
    return results


def resources_of(log: EvaluationLog, embedder: str) -> Resources:
    """Return what scorers of a log may need; the embedder is loaded when it is first used."""
    verdicts = scores_of(read_verdicts(log.path(VERDICTS))) if exists(log.path(VERDICTS)) else {}
    directory = log.header().model.get("directory")

    @cache
    def load() -> Any:
        clap = read_info(directory).model.clap if embedder == "clap" and directory else None
        return load_embedder(embedder, clap=clap)

    return Resources(embedder=load, verdicts=verdicts)


def _model(config: EvaluateConfig) -> ModelInfo | None:
    without = [one.name for one in config.benchmarks if one.answers is None]
    if not without:
        return None
    if config.model is None:
        raise ConfigError(f"{without[0]} needs a model directory (--model), or a file of answers (--answers)")
    return read_info(config.model)


def _answered(
    planned: PlannedBenchmark, config: EvaluateConfig, info: ModelInfo | None, cluster: Cluster
) -> EvaluationLog:
    """Write a row for every sample, its answer by the model or from a file."""
    log = EvaluationLog(f"{config.out.rstrip('/')}/{planned.input.name}")
    log.claim(_header(planned, config, info))
    samples, mode = planned.annotations.samples, config.prompt
    prompts = [planned.benchmark.instruction(one, mode).strip() for one in samples]
    if planned.matches is None:
        assert planned.input.answers is not None
        answers = read_answers(planned.input.answers, [one.id for one in samples])
        log.write([_given_row(*one, answers) for one in zip(samples, prompts, strict=True)])
        return log
    assert info is not None
    questions = dict[str, list[str]]()
    for one, prompt in zip(samples, prompts, strict=True):
        if one.id in planned.matches.objects:
            questions.setdefault(planned.matches.objects[one.id].path, []).append(prompt)
    caption(
        config.caption,
        config.generation,
        audio=planned.matches.files,
        out=log.path(ANSWERS),
        model=str(info.directory),
        questions=questions,
        cluster=cluster,
    )
    answers = _answer_rows(log.path(ANSWERS))
    pairs = zip(samples, prompts, strict=True)
    log.write([_answered_row(one, prompt, planned.matches, answers) for one, prompt in pairs])
    return log


def _header(planned: PlannedBenchmark, config: EvaluateConfig, info: ModelInfo | None) -> Header:
    benchmark, samples, one = planned.benchmark, planned.annotations.samples, planned.input
    mode: PromptMode = config.prompt
    prefix = benchmark.upstream_prefix if mode == "upstream_eval" else ""
    if one.answers is not None or info is None:
        model, decoding = {"id": f"answers of {one.answers}"}, "not known"
    else:
        model = {"id": info.model_id, "clap": str(info.clap), "directory": str(info.directory.resolve())}
        generation = config.generation or info.generation
        decoding = Provenance(model_id=info.model_id, generation=generation).decoding
    return Header(
        benchmark=benchmark.name,
        version=benchmark.version,
        model=model,
        decoding=decoding,
        prompt={"mode": mode, "prefix": prefix, "example": benchmark.instruction(samples[0], mode)},
        annotations=one.annotations,
        audio=one.audio or "",
        left_out=planned.annotations.left_out,
        first_rejected=planned.annotations.first_rejected,
        num_ambiguous=len(planned.matches.ambiguous) if planned.matches else 0,
    )


def _answer_rows(folder: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Read the batch job's rows by path and prompt."""
    store, rows = PartStore(folder, create=False), dict[tuple[str, str], dict[str, Any]]()
    names = ["path", "prompt", "answer", "status", "error_code", "error"]
    for name in store.names():
        table: pa.Table = store.read(name).select(names)
        for row in table.to_pylist():
            rows[row["path"], row["prompt"]] = row
    return rows


def _answered_row(
    sample: Sample, prompt: str, matches: AudioMatches, answers: Mapping[tuple[str, str], dict[str, Any]]
) -> Row:
    if sample.id not in matches.objects:
        why = "its name fits several files" if sample.id in matches.ambiguous else "no file has its name"
        return Row(sample=sample, prompt=prompt, status="missing", error_code="no_audio", error=why)
    path = matches.objects[sample.id].path
    found = answers[path, prompt]
    row = Row(sample=sample, prompt=prompt, status="ok", audio=path)
    if found["status"] == ERROR:
        return replace(row, status="error", error_code=found["error_code"], error=found["error"])
    answer = found["answer"] or ""
    return replace(row, answer=answer, status="ok" if answer.strip() else "empty")


def _given_row(sample: Sample, prompt: str, answers: Mapping[str, str]) -> Row:
    if sample.id not in answers:
        why = "the file of answers has no row of this id"
        return Row(sample=sample, prompt=prompt, status="missing", error_code="no_answer", error=why)
    answer = answers[sample.id]
    return Row(sample=sample, prompt=prompt, answer=answer, status="ok" if answer.strip() else "empty")


@contextmanager
def _entered_once(cluster: Cluster) -> Iterator[Cluster]:
    """Yield a cluster that the first benchmark with missing answers starts, and all others share."""
    with ExitStack() as stack:

        @cache
        def start() -> None:
            stack.enter_context(cluster())

        def enter() -> AbstractContextManager[None]:
            start()
            return nullcontext()

        yield enter
