"""Table of engines: another one is a file that implements ``GenerationEngine`` and a row here."""

from collections.abc import Callable, Mapping

from mats_ray.infer.answerer import Answerer
from mats_ray.infer.batching import BatchingEngine, check_model
from mats_ray.infer.engine import GenerationEngine
from mats_ray.models.directory import ModelInfo


def _batching(info: ModelInfo, device: str, max_requests: int) -> GenerationEngine:
    answerer = Answerer.from_info(info, device=device)
    check_model(answerer)
    return BatchingEngine(answerer, max_requests=max_requests)


ENGINES: Mapping[str, Callable[[ModelInfo, str, int], GenerationEngine]] = {"batching": _batching}
"""Builders by name: (settings of a model directory, device, number of requests at once) to an engine."""


def build_engine(
    info: ModelInfo, *, device: str = "cpu", max_requests: int, engine: str = "batching"
) -> GenerationEngine:
    """Load a model into an engine; ``info.generation`` applies where requests set nothing.

    Raises:
        ModelError: The model is incomplete, or the engine cannot run it.
    """
    return ENGINES[engine](info, device, max_requests)
