"""The demo's results: a table for the terminal, and one HTML page that needs no other file and no network.

Shapes: N points, C CLAP dim.
"""

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

METHOD, CEILING = "text_noise_santa", "audio_supervised"
SYSTEMS = {
    METHOD: "text only + noise + Santa (the method)",
    "text_noise": "without Santa",
    "text_santa": "without noise",
    "text_only": "neither",
    CEILING: "trained on audio (the ceiling)",
    "text_embedding": "text only, given the text embedding",
    "floor": "always the most frequent answer (the floor)",
}
MEASURES = {"caption_all_sounds": "caption names all sounds", "questions_right": "questions right"}
BARS = {"caption_all_sounds": 0.85, "questions_right": 0.80}
"""Shares the method has to reach."""

_CLAIMS = (
    ("Noise does not help (with Santa)", METHOD, "with noise", "text_santa", "without"),
    ("Noise does not help (without Santa)", "text_noise", "with noise", "text_only", "without"),
    ("Santa does not help (with noise)", METHOD, "with Santa", "text_noise", "without"),
    ("Santa does not help (without noise)", "text_santa", "with Santa", "text_only", "without"),
    ("Training on audio is no ceiling", CEILING, "trained on audio", METHOD, "by the method on text only"),
)
"""Printed unless the first system beats the second, as in the paper."""


@dataclass(frozen=True, slots=True)
class ReportClip:
    """One held-out clip and the method's output for it."""

    path: Path
    """WAV file."""
    truth: str
    """The scene in words."""
    caption: str
    caption_right: bool
    answers: tuple[tuple[str, str, str, bool], ...]
    """Question, expected answer, generated answer, whether it is right."""


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything the page shows."""

    metrics: dict[str, Any]
    """As in ``metrics.json``."""
    curves: dict[str, list[dict[str, float]]]
    """Records of ``metrics.jsonl`` by name of the run."""
    text_NC: np.ndarray
    audio_NC: np.ndarray
    moved_NC: np.ndarray
    """Audio embeddings after Santa."""
    clips: tuple[ReportClip, ...]


def results_table(metrics: dict[str, Any]) -> str:
    """Lay out the systems' results as plain text, closing with whether the method meets its bars."""
    rows = [("system, on held-out audio", *MEASURES.values())]
    for system, label in SYSTEMS.items():
        rows.append((label, *(_share(metrics["systems"][system][measure]) for measure in MEASURES)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *others = widths
    lines = ["  ".join([label.ljust(first), *map(str.rjust, values, others)]) for label, *values in rows]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([lines[0], rule, *lines[1:], "", verdict(metrics)])


def verdict(metrics: dict[str, Any]) -> str:
    """Write a sentence on whether the method meets both bars."""
    scores = metrics["systems"][METHOD]
    missed = [measure for measure, bar in BARS.items() if not scores[measure] >= bar]
    details = ", ".join(
        f'"{MEASURES[measure]}" {_share(scores[measure])} '
        f"({'below' if measure in missed else 'at least'} {bar:.2f})"
        for measure, bar in BARS.items()
    )
    summary = {0: "meets both bars", 1: "misses one of its two bars", 2: "misses both bars"}[len(missed)]
    return f"The method {summary}: {details}."


def contradictions(metrics: dict[str, Any]) -> list[str]:
    """List, one sentence each, where the numbers do not bear out what the paper claims."""
    systems = metrics["systems"]
    found = [
        f'{sentence}: "{label}" is {_share(systems[first][measure])} {first_how} '
        f"and {_share(systems[second][measure])} {second_how}."
        for sentence, first, first_how, second, second_how in _CLAIMS
        for measure, label in MEASURES.items()
        if not systems[first][measure] > systems[second][measure]
    ]
    gap = metrics["modality_gap"]
    if not gap["after_santa"] < gap["before"]:
        numbers = f"{gap['before']:.3f} before and {gap['after_santa']:.3f} after"
        found.append(f"Santa does not narrow the modality gap: {numbers}.")
    return found


def write_report(path: Path, content: ReportContent) -> None:
    """Write the page.

    Args:
        path: HTML file; its folder exists.
        content: Content of the page; all of its text is escaped.
    """
    from mats_ray.toy.charts import gap_charts, loss_chart  # importing matplotlib costs a second

    metrics = content.metrics
    before, after = gap_charts(content.text_NC, content.audio_NC, content.moved_NC)
    page = Template(resources.files("mats_ray.toy").joinpath("report.html").read_text("utf-8"))
    html = page.substitute(
        num_clips=metrics["systems"][METHOD]["num_clips"],
        verdict=escape(verdict(metrics), quote=False),
        results=_results(metrics),
        chance=_chance(metrics),
        contradictions=_contradictions(metrics),
        loss_chart=loss_chart(content.curves),
        runs=_runs(content.curves),
        gap=_gap(metrics["modality_gap"]),
        gap_before=before,
        gap_after=after,
        clip_score=_clip_score(content.clips),
        clips="".join(_clip(number, clip) for number, clip in enumerate(content.clips, start=1)),
        stages=_stages(metrics["wall_seconds"]),
        peak_memory=f"{metrics['peak_memory_gb']:.2f}",
        versions=_table(("package", "version"), [map(escape, row) for row in metrics["versions"].items()]),
    )
    path.write_text(html, "utf-8")


# From here on functions return HTML; what came from outside passes through escape() on its way in.


def _results(metrics: dict[str, Any]) -> str:
    rows = []
    for system, label in SYSTEMS.items():
        scores = metrics["systems"][system]
        format_share = _share_against_bar if system == METHOD else lambda _, share: _share(share)
        rows.append((escape(label), *(format_share(measure, scores[measure]) for measure in MEASURES)))
    return _table(("system", *MEASURES.values()), rows, style="numbers")


def _share_against_bar(measure: str, share: float) -> str:
    mark = _mark(good=share >= BARS[measure], words=("pass", "fail"))
    return f"{mark} {_share(share)}<br><small>bar {BARS[measure]:.2f}</small>"


def _chance(metrics: dict[str, Any]) -> str:
    scores = metrics["systems"][METHOD]
    share, count = scores["caption_all_sounds"], max(scores["num_clips"], 1)
    error = math.sqrt(share * (1 - share) / count)
    return (
        f"With {count} clips, the standard error of a caption share of {_share(share)} is {error:.3f}: "
        "a difference not much larger than that may be chance."
    )


def _contradictions(metrics: dict[str, Any]) -> str:
    found = contradictions(metrics)
    if not found:
        return "<p>None: noise helps, Santa helps and narrows the gap, and training on audio stays best.</p>"
    return f"<ul>{''.join(f'<li>{escape(sentence, quote=False)}</li>' for sentence in found)}</ul>"


def _runs(curves: dict[str, list[dict[str, float]]]) -> str:
    """Tabulate what the curves show, as text."""
    rows = [
        (
            escape(name),
            f"{records[-1]['step']:.0f}",
            f"{records[0]['loss']:.3f}",
            f"{records[-1]['loss']:.3f}",
            f"{np.median([record['samples_per_s'] for record in records]):.0f}",
        )
        for name, records in curves.items()
        if records
    ]
    return _table(("run", "steps", "first loss", "last loss", "samples/s"), rows, style="numbers")


def _gap(gap: dict[str, float]) -> str:
    before, after = gap["before"], gap["after_santa"]
    change = (
        "no gap to change"
        if before <= 0
        else f"{abs(after / before - 1):.0%} {_more_or_less(after - before)}"
    )
    return f"<strong>{before:.3f}</strong> before Santa and <strong>{after:.3f}</strong> after ({change})"


def _clip_score(clips: Sequence[ReportClip]) -> str:
    verdicts = [right for clip in clips for *_, right in clip.answers]
    captions = sum(clip.caption_right for clip in clips)
    return f"{captions} of {len(clips)} captions and {sum(verdicts)} of {len(verdicts)} answers are right."


def _clip(number: int, clip: ReportClip) -> str:
    """One clip: player, truth, caption, answers."""
    source = f"data:audio/wav;base64,{base64.b64encode(clip.path.read_bytes()).decode('ascii')}"
    rows = [
        (escape(question), escape(expected), f"{escape(answer)} {_mark(good=right)}")
        for question, expected, answer, right in clip.answers
    ]
    return (
        f"<article><h3>Clip {number} <small>{escape(clip.path.name)}</small></h3>"
        f'<audio controls preload="metadata" src="{source}" aria-label="Clip {number}"></audio>'
        f"<dl><dt>True scene</dt><dd>{escape(clip.truth)}</dd>"
        f"<dt>Caption</dt><dd>{escape(clip.caption)} {_mark(good=clip.caption_right)}</dd></dl>"
        f"{_table(('question', 'expected', 'answer'), rows)}</article>"
    )


def _stages(seconds: dict[str, float]) -> str:
    """Tabulate stage times with a bar each; the total comes last."""
    total = max(seconds["total"], 1e-9)
    rows = [
        (escape(stage), _duration(spent), _bar(spent / total))
        for stage, spent in seconds.items()
        if stage != "total"
    ]
    rows.append(("<strong>in all</strong>", f"<strong>{_duration(seconds['total'])}</strong>", ""))
    return _table(("stage", "time", "share"), rows, style="times")


def _bar(share: float) -> str:
    return f'<div class="bar" role="img" aria-label="{share:.0%}" style="width:{share:.1%}"></div>'


def _table(head: Sequence[str], rows: Iterable[Iterable[str]], *, style: str = "") -> str:
    """Lay out cells that are HTML already; the first of a row heads it."""
    columns = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = ""
    for first, *others in rows:
        body += f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'
    return (
        f'<div class="scroll"><table class="{style}"><thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _mark(*, good: bool, words: tuple[str, str] = ("right", "wrong")) -> str:
    """A verdict by sign, word and colour."""
    sign, style, word = ("&#10003;", "good", words[0]) if good else ("&#10007;", "bad", words[1])
    return f'<span class="mark {style}">{sign}&nbsp;{word}</span>'


def _share(value: float) -> str:
    """Three digits, rounded down: a share just below a bar must not look as if it met it."""
    return f"{np.floor(value * 1000 + 1e-6) / 1000:.3f}"


def _more_or_less(difference: float) -> str:
    return "more" if difference > 0 else "less"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
