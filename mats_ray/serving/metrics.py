"""The table of metrics, and sinks that export them. Every name begins with ``mats_``.

All are recorded by the ingress, which handles a request from its first byte to its last; results carry what
replicas measure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SMALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
COUNTS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Metric:
    """Name, kind and labels of a metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "mats_requests_total", "counter", "Requests answered, by route and status", ("route", "status")
        ),
        Metric("mats_rejected_total", "counter", "Requests refused, by error code", ("reason",)),
        Metric("mats_requests_in_flight", "gauge", "Requests waiting or being answered"),
        Metric("mats_request_seconds", "histogram", "First byte to last", ("route",), SECONDS),
        Metric("mats_decode_seconds", "histogram", "Audio file to samples", (), SMALL_SECONDS),
        Metric("mats_audio_seconds_total", "counter", "Seconds of audio listened to"),
        Metric("mats_queue_seconds", "histogram", "Waiting for a place in the batch", (), SMALL_SECONDS),
        Metric("mats_batch_size", "histogram", "Answers under way together", (), COUNTS),
        Metric(
            "mats_time_to_first_token_seconds",
            "histogram",
            "First byte to first text of a stream",
            (),
            SECONDS,
        ),
        Metric(
            "mats_time_per_token_seconds", "histogram", "Of an answer, the queue left out", (), SMALL_SECONDS
        ),
        Metric("mats_prompt_tokens_total", "counter", "Tokens read"),
        Metric("mats_completion_tokens_total", "counter", "Tokens written"),
        Metric("mats_key_file_errors", "gauge", "Lines of the key file that cannot be used, or 1: no file"),
        Metric("mats_retries_total", "counter", "Calls repeated because a replica had died", ("deployment",)),
    )
}


class Sink(Protocol):
    """Exports metrics."""

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """Add to a counter, set a gauge, observe in a histogram."""
        ...


class PrometheusSink:
    """Prometheus' text format, for ``GET /metrics`` of this process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._recorders = {metric.name: _recorder(metric, self._registry) for metric in METRICS.values()}

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """See ``Sink``."""
        recorder = self._recorders[metric.name]
        child = recorder.labels(**labels) if metric.labels else recorder
        if isinstance(child, Counter):
            child.inc(value)
        elif isinstance(child, Gauge):
            child.set(value)
        else:
            child.observe(value)

    def text(self) -> bytes:
        """Return all metrics."""
        return generate_latest(self._registry)


class Metrics:
    """Records by name into every sink."""

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self._sinks = sinks

    def record(self, name: str, value: float = 1.0, **labels: str) -> None:
        """Record one value.

        Raises:
            KeyError: No metric has this name.
        """
        metric = METRICS[name]
        assert set(labels) == set(metric.labels), f"{name} has the labels {metric.labels}"
        for sink in self._sinks:
            sink.record(metric, value, labels)


def _recorder(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == "histogram":
        return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=registry)
    kind = Counter if metric.kind == "counter" else Gauge
    return kind(metric.name, metric.help, metric.labels, registry=registry)
