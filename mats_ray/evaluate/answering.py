"""Answers of one benchmark: by the batch job, or from a file; a row of the log for every sample."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pyarrow as pa

from mats_ray.caption.on_ray import caption
from mats_ray.caption.output import PartStore
from mats_ray.caption.rows import ERROR, Provenance
from mats_ray.config.evaluate import EvaluateConfig
from mats_ray.evaluate.audio_match import AudioMatches
from mats_ray.evaluate.benchmark import PromptMode, Sample
from mats_ray.evaluate.given_answers import read_answers
from mats_ray.evaluate.header import Header
from mats_ray.evaluate.log import ANSWERS, EvaluationLog, Row
from mats_ray.evaluate.plan import PlannedBenchmark
from mats_ray.models.bridges.santa import santa_numbers
from mats_ray.models.bridges.table import load_bridge
from mats_ray.models.directory import ModelInfo

Cluster = Callable[[], AbstractContextManager[None]]
"""Starts Ray, for the time of a context."""


def answer_from_file(planned: PlannedBenchmark, log: EvaluationLog, *, mode: PromptMode) -> None:
    """Write a row for every sample with its answer from the file of answers.

    Raises:
        ConfigError: The folder holds another evaluation.
        DataError: The file cannot be used.
    """
    assert planned.input.answers is not None
    samples = planned.annotations.samples
    answers = read_answers(planned.input.answers, [one.id for one in samples])
    model = {"id": f"answers of {planned.input.answers}"}
    log.claim(_header(planned, mode, model=model, decoding="not known"))
    log.write([_given_row(*one, answers) for one in zip(samples, _prompts(planned, mode), strict=True)])


def answer_with_model(
    planned: PlannedBenchmark,
    log: EvaluationLog,
    config: EvaluateConfig,
    info: ModelInfo,
    cluster: Cluster = nullcontext,
) -> None:
    """Write a row for every sample with its answer by the batch job.

    Args:
        planned: With the files of the audio.
        log: Of the benchmark.
        config: Its sections ``caption`` and ``generation``, and the prompt.
        info: Of the model.
        cluster: Entered if answers are missing.

    Raises:
        ConfigError: The folder holds another evaluation.
        DataError: Too many answers are errors.
        ModelError: The model cannot be loaded.
    """
    assert planned.matches is not None
    model = _identity(info)
    decoding = Provenance(model_id=info.model_id, generation=config.generation or info.generation).decoding
    log.claim(_header(planned, config.prompt, model=model, decoding=decoding))
    samples, prompts = planned.annotations.samples, _prompts(planned, config.prompt)
    caption(
        config.caption,
        config.generation,
        audio=planned.matches.files,
        out=log.path(ANSWERS),
        model=str(info.directory),
        questions=_questions(samples, prompts, planned.matches),
        cluster=cluster,
    )
    answers = _answer_rows(log.path(ANSWERS))
    pairs = zip(samples, prompts, strict=True)
    log.write([_answered_row(one, prompt, planned.matches, answers) for one, prompt in pairs])


def _questions(
    samples: Sequence[Sample], prompts: Sequence[str], matches: AudioMatches
) -> dict[str, list[str]]:
    """List the prompts about each file by its path."""
    questions = dict[str, list[str]]()
    for sample, prompt in zip(samples, prompts, strict=True):
        if sample.id in matches.objects:
            questions.setdefault(matches.objects[sample.id].path, []).append(prompt)
    return questions


def _identity(info: ModelInfo) -> dict[str, str]:
    directory = str(info.directory.resolve())
    return {"id": info.model_id, "clap": str(info.clap), "santa": _bridge(info), "directory": directory}


def _bridge(info: ModelInfo) -> str:
    """Write the bridge in a few words; under the name that headers have had since there was Santa alone."""
    return santa_numbers(info.santa) if info.bridge == "santa" else load_bridge(info).description()


def _prompts(planned: PlannedBenchmark, mode: PromptMode) -> list[str]:
    return [planned.benchmark.instruction(one, mode).strip() for one in planned.annotations.samples]


def _header(
    planned: PlannedBenchmark, mode: PromptMode, *, model: Mapping[str, str], decoding: str
) -> Header:
    benchmark, one = planned.benchmark, planned.input
    example = benchmark.instruction(planned.annotations.samples[0], mode)
    prefix = benchmark.upstream_prefix if mode == "upstream_eval" else ""
    return Header(
        benchmark=benchmark.name,
        version=benchmark.version,
        model=model,
        decoding=decoding,
        prompt={"mode": mode, "prefix": prefix, "example": example},
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
