"""Metrics in Ray's own export, where Prometheus finds all replicas; Ray puts ``ray_`` before each name."""

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge, Histogram

from mats_ray.infer.engine import EngineLoad
from mats_ray.serving.metrics import METRICS, Metric


class RaySink:
    """See ``metrics.Sink``."""

    def __init__(self) -> None:
        self._metrics = {metric.name: _make(metric) for metric in METRICS.values()}

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """Record one value."""
        recorder, tags = self._metrics[metric.name], dict(labels)
        if isinstance(recorder, Counter):
            if value > 0:  # Ray's counters raise for 0
                recorder.inc(value, tags=tags)
        elif isinstance(recorder, Gauge):
            recorder.set(value, tags=tags)
        else:
            recorder.observe(value, tags=tags)


class LoadGauges:
    """Numbers of answers running and waiting in a replica."""

    def __init__(self) -> None:
        self._running = Gauge("mats_answers_running", "Answers under way in a replica")
        self._waiting = Gauge("mats_answers_waiting", "Questions waiting for a place in a replica's batch")

    def set(self, load: EngineLoad) -> None:
        """Record the numbers of now."""
        self._running.set(load.running)
        self._waiting.set(load.waiting)


def listening_host() -> str:
    """Return the address that Serve's proxies listen on; to be called in a replica."""
    from ray.serve.context import _get_global_client  # Serve has no public name for it

    client = _get_global_client()
    return "127.0.0.1" if client is None else client.http_config.host or "0.0.0.0"  # noqa: S104


def _make(metric: Metric) -> Counter | Gauge | Histogram:
    if metric.kind == "histogram":
        return Histogram(metric.name, metric.help, boundaries=list(metric.buckets), tag_keys=metric.labels)
    kind = Counter if metric.kind == "counter" else Gauge
    return kind(metric.name, metric.help, tag_keys=metric.labels)
