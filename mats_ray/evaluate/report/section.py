"""One benchmark's section of the page: scores, the paper's beside them, what was scored, classes, samples."""

from collections.abc import Iterable
from dataclasses import dataclass

from mats_ray.evaluate.report.cards import cards_html
from mats_ray.evaluate.report.confusion import confusion_html
from mats_ray.evaluate.report.markup import bar, count, definitions, items, number, published, table, text
from mats_ray.evaluate.report.samples import NUM_EACH, ShownSamples
from mats_ray.evaluate.report.scores import BenchmarkScores, MeasureScore, PartScore

NUM_WORST = 10
_MOST_ROWS = 60
"""Of a table by category, and of reasons."""
_LABEL_CHARACTERS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much of a benchmark is shown: with hundreds of them the page would not open."""

    num_samples: int
    """Of those that are right, and of those that are wrong."""
    has_tables: bool
    """By class and by category."""
    is_whole: bool
    """All classes and the confusion matrix, not the worst classes and the pairs confused most."""


EXTENTS = (
    Extent(num_samples=NUM_EACH, has_tables=True, is_whole=True),
    Extent(num_samples=3, has_tables=True, is_whole=False),
    Extent(num_samples=0, has_tables=False, is_whole=False),
)
"""Fullest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """What an evaluation folder holds of one benchmark."""

    scores: BenchmarkScores
    shown: ShownSamples | None
    """None: there is no file of samples."""


def section_html(
    result: BenchmarkResult, folder: str, *, anchor: str, extent: Extent, is_only: bool = True
) -> str:
    """Show one benchmark.

    Args:
        result: What is shown.
        folder: Of the page; local audio is linked from there.
        anchor: Id of the section.
        extent: How much of it.
        is_only: The page has no other: its samples are shown at once.
    """
    scores = result.scores
    parts = [
        f'<section aria-labelledby="{anchor}">\n<h2 id="{anchor}">{text(scores.title)}</h2>',
        _facts(scores),
        f"<h3>Scores</h3>\n{_measures(scores)}",
        f"<h3>Beside published results</h3>\n{_published(scores)}",
        f"<h3>What was scored</h3>\n{_counts(scores)}{_failures(result.shown)}",
    ]
    if extent.has_tables:
        parts += [_classes(scores, extent), _categories(scores), _confusion(scores, extent)]
    if extent.num_samples:
        parts.append(_samples(result, folder, extent, is_open=is_only))
    if not extent.is_whole:
        parts.append(
            '<p class="soft">To keep the page small, not everything is shown; '
            f"<code>{text(scores.benchmark)}/</code> beside it holds the rest.</p>"
        )
    return "\n".join([*filter(None, parts), "</section>\n"])


def missing_text(scores: BenchmarkScores) -> str:
    """Say how samples without audio are counted, as text; empty where all audio is there."""
    missing = scores.samples.without_audio
    of_main = scores.measures.get(scores.main)
    if not missing:
        return ""
    what, others = ("A missing answer", "answered") if scores.are_given else ("Missing audio", "with audio")
    sentence = f"{what} counts as wrong: {count(missing)} of {count(scores.samples.annotated)} samples."
    if of_main is None or of_main.value_with_audio is None:
        return sentence
    values = "; ".join(
        f"{name} {number(one.value_with_audio)} (n {count(one.n_with_audio or 0)})"
        for name, one in scores.measures.items()
        if one.value_with_audio is not None
    )
    return f"{sentence} Over the clips {others}: {values}."


# From here on functions return HTML.


def _facts(scores: BenchmarkScores) -> str:
    facts = (
        scores.paper,
        scores.split and f"split: {scores.split}",
        scores.license and f"licence: {scores.license}",
        scores.source,
        f"version {scores.version} of the benchmark",
    )
    note = f"<p>{text(scores.note)}</p>\n" if scores.note else ""
    prompt = scores.prompt
    prompt_line = f"<p>A prompt: <q>{text(prompt.example)}</q></p>\n" if prompt.example else ""
    line = " &middot; ".join(text(one) for one in facts if one)
    return f'<p class="soft">{line}</p>\n{note}{prompt_line}'


def _measures(scores: BenchmarkScores) -> str:
    has_missing = any(one.value_with_audio is not None for one in scores.measures.values())
    head = ["measure", "value &plusmn; error", "samples", "chance"]
    rows = [
        [
            text(name),
            f"<strong>{number(one.value)}</strong> &plusmn; {number(one.error)} {_interval(one)}",
            count(one.n),
            number(one.chance),
            *([_with_audio(one)] if has_missing else []),
        ]
        for name, one in scores.measures.items()
    ]
    head += ["answered" if scores.are_given else "with audio"] if has_missing else []
    shown = table(head, rows, name=f"Scores of {scores.title}", style="numbers") if rows else ""
    absent = items(
        f"<strong>{text(name)}</strong> is absent: {text(reason)}" for name, reason in _absent(scores)
    )
    used = definitions((text(name), text(value)) for name, value in scores.details.items())
    return f"{shown}{absent}{used}"


def _absent(scores: BenchmarkScores) -> list[tuple[str, str]]:
    """List measures without a value, with the reason."""
    reasons = {name: "it was not computed" for name in scores.results if name not in scores.measures}
    reasons |= scores.unavailable
    if not scores.measures and not reasons:
        reasons = {"every measure": "no reason was given"}
    return [*reasons.items()][:_MOST_ROWS]


def _with_audio(measure: MeasureScore) -> str:
    if measure.value_with_audio is None:
        return number(None)
    return f"{number(measure.value_with_audio)} <small>n&nbsp;{count(measure.n_with_audio or 0)}</small>"


def _published(scores: BenchmarkScores) -> str:
    """The paper's table: our row in bold, published ones below, chance last."""
    measures = [name for name in scores.results if scores.results[name]]
    if not measures:
        return "<p>No published results are known for its measures.</p>\n"
    ours = [_ours(scores, name) for name in measures]
    models = dict.fromkeys(model for name in measures for model in scores.results[name])
    rows = [[f"<strong>{text(scores.model.get('id') or 'this model')}</strong> <small>here</small>", *ours]]
    rows += [
        [text(model), *(published(scores.results[name].get(model)) for name in measures)]
        for model in list(models)[:_MOST_ROWS]
    ]
    known = [scores.measures.get(name) for name in measures]
    rows.append(["<em>chance</em>", *(number(one and one.chance) for one in known)])
    head = ("model", *map(text, measures))
    name = f"{scores.title}: this model and published results"
    warning = (
        f"<p>Scored on {count(scores.samples.annotated)} samples; the published results are over "
        f"{count(scores.samples.published)}.</p>\n"
        if scores.samples.is_partial
        else ""
    )
    return f"{warning}{table(head, rows, name=name, style='numbers narrow ours')}"


def _ours(scores: BenchmarkScores, name: str) -> str:
    one = scores.measures.get(name)
    if one is None:
        return "absent"
    return f"<strong>{number(one.value)}</strong> {_interval(one)}"


def _interval(one: MeasureScore) -> str:
    return f"<small>{number(one.low)} to {number(one.high)}</small>"


def _counts(scores: BenchmarkScores) -> str:
    counts = scores.samples
    rows = [
        ("published samples of this split", counts.published),
        ("samples scored", counts.annotated),
        *((f"left out: {reason}", number) for reason, number in [*counts.left_out.items()][:_MOST_ROWS]),
        ("answered", counts.answered),
        ("answers that are empty, which count as wrong", counts.empty),
        *((f"failed, which counts as wrong: {code}", number) for code, number in counts.errors.items()),
        (f"{'answer' if scores.are_given else 'audio'} missing, which counts as wrong", counts.missing_audio),
        ("audio whose name several files have, which counts as wrong", counts.ambiguous_audio),
    ]
    shown = table(
        ("samples", "number"),
        ((text(what), count(number)) for what, number in rows),
        name=f"Samples of {scores.title}",
        style="numbers narrow",
    )
    rejected = counts.first_rejected
    return (
        (f'<p class="missing">{sentence}</p>\n' if (sentence := text(missing_text(scores))) else "")
        + shown
        + (f"<p>The first record that is not usable: <code>{text(rejected)}</code></p>\n" if rejected else "")
    )


def _failures(shown: ShownSamples | None) -> str:
    failed = shown.failed if shown else ()
    entries = items(f"{text(one.error_code)}: {text(one.id)}: {text(one.error)}" for one in failed)
    return f"<p>The first failure of each kind:</p>\n{entries}" if entries else ""


def _classes(scores: BenchmarkScores, extent: Extent) -> str:
    if not scores.per_class:
        return ""
    ranked = sorted(scores.per_class.items(), key=lambda item: (item[1].value, item[0]))
    worst = _bars(ranked[:NUM_WORST], "class", f"Worst classes of {scores.title}", main=scores.main)
    if len(ranked) <= NUM_WORST:
        return f"<h3>By class</h3>\n{worst}"
    rest = ""
    if extent.is_whole:
        every = _bars(ranked, "class", f"All classes of {scores.title}", main=scores.main)
        rest = f"<details><summary>All {count(len(ranked))} classes</summary>\n{every}</details>"
    return f"<h3>By class: the worst {NUM_WORST} of {count(len(ranked))}</h3>\n{worst}{rest}"


def _categories(scores: BenchmarkScores) -> str:
    tables = ""
    for name, parts in scores.per_category.items():
        shown, rest = [*parts.items()][:_MOST_ROWS], len(parts) - _MOST_ROWS
        more = f"<p>and {count(rest)} more</p>" if rest > 0 else ""
        label = f"{scores.title} by {name}"
        tables += f"<div>{_bars(shown, text(name), label, main=scores.main)}{more}</div>\n"
    return f'<h3>By category</h3>\n<div class="pair">{tables}</div>' if tables else ""


def _bars(parts: Iterable[tuple[str, PartScore]], head: str, name: str, *, main: str) -> str:
    parts = [*parts]
    top = max([1.0, *(part.value for _, part in parts)])
    rows = (
        (text(label, most=_LABEL_CHARACTERS), bar(part.value / top), number(part.value), count(part.n))
        for label, part in parts
    )
    value = f"<small>{text(main or 'value')}</small>"
    return table(
        (head, "<small>share</small>", value, "<small>n</small>"), rows, name=name, style="bars numbers"
    )


def _confusion(scores: BenchmarkScores, extent: Extent) -> str:
    if scores.confusion is None or not scores.confusion.labels:
        return ""
    return f"<h3>Confusion</h3>\n{confusion_html(scores.confusion, matrix=extent.is_whole)}"


def _samples(result: BenchmarkResult, folder: str, extent: Extent, *, is_open: bool) -> str:
    if result.shown is None:
        return "<h3>Samples</h3>\n<p>There is no file of samples beside the scores.</p>"
    cards = cards_html(result.shown, folder, prompt=result.scores.prompt.example, num_each=extent.num_samples)
    opened = " open" if is_open else ""
    return f"<details{opened}><summary><h3>Samples to listen to</h3></summary>\n{cards}</details>"
