"""What stands on top of the page: all benchmarks in one table, and where their numbers come from."""

from collections.abc import Collection, Iterable, Mapping

from mats_ray.errors import abbreviated
from mats_ray.evaluate.report.markup import count, definitions, number, published, table, text
from mats_ray.evaluate.report.scores import BenchmarkScores
from mats_ray.evaluate.summary import PAPER_MODEL

_MOST_VALUES = 5
_MODEL_FACTS = {"id": "Model", "clap": "CLAP", "santa": "Santa, or another bridge", "directory": "Directory"}


def summary_html(scores_of: Mapping[str, BenchmarkScores]) -> str:
    """Tabulate the main measure of every benchmark.

    Args:
        scores_of: By the id of the benchmark's section.
    """
    head = (
        "benchmark",
        "value &plusmn; error",
        "chance",
        f"{PAPER_MODEL} <small>paper</small>",
        "samples",
        "missing",
    )
    rows = (_row(anchor, scores) for anchor, scores in scores_of.items())
    return table(head, rows, name="All benchmarks", style="numbers")


def _row(anchor: str, scores: BenchmarkScores) -> tuple[str, ...]:
    main, counts = scores.measures.get(scores.main), scores.samples
    if main is None:
        reason = next(iter(scores.unavailable.values()), "no measure could be had")
        value = f'absent <small class="reason">{text(reason, most=80)}</small>'
    else:
        value = (
            f"<strong>{number(main.value)}</strong> "
            f"<small>&plusmn;&nbsp;{number(main.error)} {text(scores.main, most=40)}</small>"
        )
    return (
        f'<a href="#{anchor}">{text(scores.title)}</a>',
        value,
        number(main and main.chance),
        published(scores.results.get(scores.main, {}).get(PAPER_MODEL)),
        count(counts.annotated)
        + (f" <small>of&nbsp;{count(counts.published)}</small>" if counts.is_partial else ""),
        count(counts.without_audio),
    )


def provenance_html(scores_of: Collection[BenchmarkScores]) -> str:
    """List model, decoding, prompts and versions; where benchmarks differ, each value with its benchmarks."""
    facts, dates = dict[str, dict[str, list[str]]](), set[str]()
    for scores in scores_of:
        dates.add(scores.created)
        for name, value in _facts(scores):
            facts.setdefault(name, {}).setdefault(value or "not recorded", []).append(scores.title)
    dates.discard("")
    between = " to ".join(dict.fromkeys([min(dates), max(dates)])) if dates else "not recorded"
    warning = (
        '<p class="missing">The results are of different models: they are no results of one model.</p>\n'
        if len(facts.get("Model", {})) > 1
        else ""
    )
    shown = [(text(name), _values(values, len(scores_of))) for name, values in facts.items()]
    return warning + definitions([*shown, ("Date", text(between))])


def _facts(scores: BenchmarkScores) -> Iterable[tuple[str, str]]:
    for key in dict.fromkeys(["id", *scores.model]):
        yield _MODEL_FACTS.get(key, key), scores.model.get(key) or ""
    yield "Decoding", scores.decoding
    yield "Prompts", scores.prompt.mode
    yield "Versions", ", ".join(f"{name} {version}" for name, version in scores.versions.items())
    yield "Revision", scores.revision


def _values(titles_of: Mapping[str, list[str]], num_benchmarks: int) -> str:
    if [len(titles) for titles in titles_of.values()] == [num_benchmarks]:
        return text(*titles_of)
    shown = [
        f"{text(value)} <small>({text(abbreviated(titles))})</small>"
        for value, titles in [*titles_of.items()][:_MOST_VALUES]
    ]
    rest = [f"and {len(titles_of) - _MOST_VALUES} other values"] if len(titles_of) > _MOST_VALUES else []
    return "<br>".join([*shown, *rest])
