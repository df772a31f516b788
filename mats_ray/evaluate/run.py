"""An evaluation: read all annotations, answer every sample by the batch job, score.

Everything that can be wrong with annotations, audio and model is found before the first answer.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

from mats_ray.config.evaluate import EvaluateConfig
from mats_ray.errors import ConfigError
from mats_ray.evaluate.answering import Cluster, answer_from_file, answer_with_model
from mats_ray.evaluate.benchmark import find_benchmark
from mats_ray.evaluate.compare import Difference, differences
from mats_ray.evaluate.gap import write_gap
from mats_ray.evaluate.judge import export_requests, read_verdicts, request_verdicts, write_verdicts
from mats_ray.evaluate.log import EvaluationLog
from mats_ray.evaluate.metrics.captions import caption_scores, music_caption_scores
from mats_ray.evaluate.metrics.judge import judged
from mats_ray.evaluate.plan import PlannedBenchmark
from mats_ray.evaluate.scoring import ScoredRows, resources_of, write_scores
from mats_ray.evaluate.submission import write_submission
from mats_ray.evaluate.variants import variant_model
from mats_ray.models.directory import ModelInfo, read_info
from mats_ray.models.stand_in import refuse_stand_ins

logger = logging.getLogger(__name__)

CAPTION_SCORERS = (caption_scores, music_caption_scores)
"""Of benchmarks whose references are captions: the modality gap can be measured."""

Results = dict[str, dict[str, Any]]
"""``scores.json`` by name of the benchmark."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was found in one folder."""

    results: Results
    differences: Sequence[Difference] = ()
    """Of a variant: itself less the first one."""


def evaluate(config: EvaluateConfig, *, cluster: Cluster = nullcontext) -> dict[str, Evaluation]:
    """Answer and score every benchmark of a configuration, for every variant of the model.

    Answers that are there already are not computed again, so an evaluation that was killed is continued.

    Args:
        config: What to evaluate.
        cluster: Starts Ray; entered once, and only if answers are missing.

    Returns:
        What was found by folder: ``config.out``, or a folder below it for each variant.

    Raises:
        ConfigError: A name, model or folder is not valid, or the folder holds another evaluation.
        DataError: Annotations or audio cannot be used, or too many answers are errors.
        ModelError: The model cannot be loaded.
        EndpointError: An embedder or judge refuses.
    """
    info = _model(config)
    planned = [PlannedBenchmark.plan(one) for one in config.benchmarks]
    out, logs = config.out.rstrip("/"), dict[str, dict[str, EvaluationLog]]()
    with _entered_once(cluster) as enter:
        for folder, model in _models(config, info, out):
            logs[folder] = {one.input.name: _answered(one, config, model, folder, enter) for one in planned}
    evaluations, first = dict[str, Evaluation](), dict[str, ScoredRows]()
    for folder, some in logs.items():
        results, compared = Results(), list[Difference]()
        for name, log in some.items():
            scored = _scored(name, log, embedder=config.embedder, judge=config.judge)
            results[name] = write_scores(log, scored)
            baseline = first.setdefault(name, scored)
            compared += differences(scored, baseline) if scored is not baseline else []
        evaluations[folder] = Evaluation(results=results, differences=compared)
    return evaluations


def _models(
    config: EvaluateConfig, info: ModelInfo | None, out: str
) -> Iterator[tuple[str, ModelInfo | None]]:
    """Yield folder and model of each variant, or of the one evaluation."""
    if info is None or not config.variants:
        yield out, info
        return
    for variant in config.variants:
        folder = f"{out}/{variant.name}"
        model = variant_model(variant, info, training=config.training, folder=folder)
        yield folder, _checked(model, config)


def _answered(
    planned: PlannedBenchmark, config: EvaluateConfig, info: ModelInfo | None, folder: str, cluster: Cluster
) -> EvaluationLog:
    log, one = EvaluationLog(f"{folder}/{planned.input.name}"), planned.input
    if one.answers is not None or info is None:
        answer_from_file(planned, log, mode=config.prompt)
    else:
        kept = config.caption.embeddings
        if config.variants:
            kept = f"{config.out.rstrip('/')}/embeddings/{one.name}"
            caption = config.caption.model_copy(update={"embeddings": kept})
            config = config.model_copy(update={"caption": caption})
        answer_with_model(planned, log, config, info, cluster)
        if kept is not None and planned.benchmark.score in CAPTION_SCORERS:
            write_gap(log, info, kept)
    if planned.benchmark.submission is not None:
        write_submission(log, planned.benchmark.submission, one.annotations)
    if one.verdicts is not None:
        write_verdicts(log, read_verdicts(one.verdicts))
    return log


def score_all(logs: Mapping[str, EvaluationLog], *, embedder: str, judge: str | None = None) -> Results:
    """Score logs that have their answers, with a judge's replies where one is given.

    Raises:
        ConfigError: The embedder or a library that a measure needs is not there.
        EndpointError: An embedder or judge refuses.
    """
    return {
        name: write_scores(log, _scored(name, log, embedder=embedder, judge=judge))
        for name, log in logs.items()
    }


def _scored(name: str, log: EvaluationLog, *, embedder: str, judge: str | None) -> ScoredRows:
    benchmark = find_benchmark(log.header().benchmark)
    if benchmark.score is judged:
        rows = log.rows()
        export_requests(log, rows)
        if judge is not None:
            request_verdicts(log, rows, judge)
    logger.info("scoring %s", name)
    return ScoredRows.of(log, benchmark, resources_of(log, embedder))


def _model(config: EvaluateConfig) -> ModelInfo | None:
    without = [one.name for one in config.benchmarks if one.answers is None]
    if not without:
        return None
    if config.model is None:
        raise ConfigError(f"{without[0]} needs a model directory (--model), or a file of answers (--answers)")
    return _checked(read_info(config.model), config)


def _checked(info: ModelInfo, config: EvaluateConfig) -> ModelInfo:
    refuse_stand_ins(str(info.directory), info.stand_ins, rehearsal=config.rehearsal)
    return info


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
