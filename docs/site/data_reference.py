"""The page of data: training sources and benchmarks with licences, from their tables."""

from docs.site.markup import code, prose, table
from mats_ray.data.sources.registry import SOURCES
from mats_ray.evaluate.benchmark import Benchmark, benchmark_names, find_benchmark

HEAD = """\
# Data

Made from `mats_ray/data/sources/registry.py` and `mats_ray/evaluate/benchmarks`. Licences are those of the
annotations, as their authors state them, "unknown" where none was found: a pointer, not advice. Audio has
licences of its own.

"""
MODELS = ("MATS-GPT2", "MATS-LLaMA")
"""Models of the paper whose published results are shown."""


def page() -> str:
    """Return the page."""
    return (
        f"{HEAD}## Training sources\n\n"
        "Names of files are patterns; of sources without one, the names of audio files are the data.\n\n"
        + table(("source", "task", "files", "trained on", "licence"), map(_source, SOURCES))
        + "\n## Benchmarks\n\n"
        + table(
            ("benchmark", "data", "where", "samples", "licence", *MODELS), map(_benchmark, benchmark_names())
        )
    )


def _source(name: str) -> tuple[str, ...]:
    source = SOURCES[name]
    files = ", ".join(code(pattern.replace("\\.", ".")) for pattern, _ in source.files)
    return code(name), source.task.value, files, ", ".join(source.splits), prose(source.license)


def _benchmark(name: str) -> tuple[str, ...]:
    one = find_benchmark(name)
    return (
        code(name),
        prose(f"{one.title}: {one.split}"),
        prose(one.source),
        f"{one.size:,}",
        prose(one.license),
        *(prose(published(one, model)) for model in MODELS),
    )


def published(benchmark: Benchmark, model: str) -> str:
    """Return the published results of a model, measure by measure; empty if there are none."""
    results = {measure: rows[model] for measure, rows in benchmark.results.items() if model in rows}
    return ", ".join(f"{measure} {value:g}" for measure, value in results.items())
