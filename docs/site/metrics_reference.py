"""The page of the service's metrics, from the table it records by."""

import ast
from pathlib import Path

import mats_ray
from docs.site.markup import code, prose, table
from mats_ray.serving.metrics import METRICS

HEAD = """\
# Metrics

Made from `mats_ray/serving/metrics.py`. `GET /metrics` shows them for one replica of the ingress; Ray's own
export (`--metrics-export-port`) shows all replicas, with `ray_` before each name. The last ones are those of
encoder and answerer replicas, in Ray's export alone.

"""
_REPLICAS = Path(mats_ray.__file__).parent / "serving" / "on_ray" / "metrics.py"


def page() -> str:
    """Return the page."""
    rows = [
        (code(one.name), one.kind, ", ".join(map(code, one.labels)), prose(one.help))
        for one in METRICS.values()
    ]
    rows += [(code(name), "gauge", "", prose(text)) for name, text in replica_metrics().items()]
    return HEAD + table(("metric", "kind", "labels", "meaning"), rows)


def replica_metrics() -> dict[str, str]:
    """Return the gauges of replicas and what they mean; their module imports Ray, so it is read, not run."""
    calls = (node for node in ast.walk(ast.parse(_REPLICAS.read_text("utf-8"))) if isinstance(node, ast.Call))
    found = ([arg.value for arg in call.args if isinstance(arg, ast.Constant)] for call in calls)
    return {
        values[0]: values[1] for values in found if len(values) == 2 and str(values[0]).startswith("mats_")
    }
