"""The demo's results as one HTML page that needs no other file and no network.

Shapes: N points, C CLAP dim.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import soundfile
import torch

from mats_ray.evaluate.report.markup import mark, style_sheet, table
from mats_ray.models.noise import inject_noise
from mats_ray.toy.demo.gap import pair_cosines
from mats_ray.toy.report.results import (
    MEANINGS,
    METHOD,
    against_five_seeds,
    comparisons,
    contradictions,
    five_seeds,
    gap_rows,
    measured_systems,
    method_shares,
    score_columns,
    share,
)


@dataclass(frozen=True, slots=True)
class ReportClip:
    """One clip and its captions."""

    path: Path
    """WAV file."""
    truth: str
    """The scene in words."""
    captions: tuple[tuple[str, bool], ...]
    """Text and whether it is right: of the method, and of the same without Santa."""


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
    noise_variance: float
    """Of training, to draw what it sees."""
    clips: tuple[ReportClip, ...]


def write_report(path: Path, content: ReportContent) -> None:
    """Write the page.

    Args:
        path: HTML file; its folder exists.
        content: Content of the page; all of its text is escaped.
    """
    metrics, known = content.metrics, five_seeds()
    folder = resources.files("mats_ray.toy.report")
    page = Template(folder.joinpath("page.html").read_text("utf-8"))
    html = page.substitute(
        _pictures(content),
        style=style_sheet(),
        loop=folder.joinpath("loop.svg").read_text("utf-8"),
        num_clips=metrics["systems"][METHOD]["read"]["num_clips"],
        verdict=escape(_verdict(metrics), quote=False),
        results=_results(metrics),
        meanings=escape("; ".join(MEANINGS.values()), quote=False),
        comparisons=_list([*comparisons(metrics), *against_five_seeds(metrics, known)]),
        pending="" if "text_santa" in metrics["systems"] else "<p>The comparisons are not there yet.</p>",
        contradictions=_list(contradictions(metrics)) or "<p>Nothing.</p>",
        runs=_runs(content.curves),
        gap=_gap(metrics),
        clips="".join(_clip(number, clip) for number, clip in enumerate(content.clips, start=1)),
        stages=_stages(metrics["wall_seconds"]),
        peak_memory=f"{metrics['peak_memory_gb']:.2f}",
        versions=table(
            ("package", "version"), [map(escape, row) for row in metrics["versions"].items()], name="Versions"
        ),
    )
    path.write_text(html, "utf-8")


def _pictures(content: ReportContent) -> dict[str, str]:
    """Charts by their name in the template."""
    from mats_ray.toy.report import charts  # importing matplotlib costs a second

    text_NC, generator = content.text_NC, torch.Generator().manual_seed(0)
    noised_NC = inject_noise(
        torch.from_numpy(text_NC), variance=content.noise_variance, generator=generator
    ).numpy()
    plain, noise, santa = charts.gap_charts(text_NC, noised_NC, content.audio_NC, content.moved_NC)
    before, after = (pair_cosines(one, text_NC) for one in (content.audio_NC, content.moved_NC))
    return {
        "systems_chart": charts.systems_chart(_chart_rows(content.metrics)),
        "loss_chart": charts.loss_chart(content.curves),
        "gap_plain": plain,
        "gap_noise": noise,
        "gap_santa": santa,
        "cosines": charts.cosine_chart(before, after),
    }


def _verdict(metrics: dict[str, Any]) -> str:
    """One sentence for whoever reads no further."""
    captions, questions = method_shares(metrics)
    return (
        f"Trained on text alone, the method names all sounds of {captions} of the clips and answers "
        f"{questions} of the questions about them."
    )


# From here on functions return HTML; what came from outside passes through escape() on its way in.


def _results(metrics: dict[str, Any]) -> str:
    columns = score_columns(metrics)
    rows = [
        (
            escape(label),
            *(share(of.get(name), measure).replace("+-", "&plusmn;") for name, measure in columns),
        )
        for label, of in measured_systems(metrics)
    ]
    return table(("system", *columns.values()), rows, name="Results", style="numbers")


def _chart_rows(metrics: dict[str, Any]) -> list[tuple[str, dict[str, tuple[float, float]]]]:
    return [
        (
            label,
            {
                heading: (of[name][measure], of[name][f"{measure}_error"])
                for (name, measure), heading in score_columns(metrics).items()
                if name in of
            },
        )
        for label, of in measured_systems(metrics)
    ]


def _list(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence, quote=False)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _gap(metrics: dict[str, Any]) -> str:
    rows = (tuple(map(escape, row)) for row in gap_rows(metrics))
    return table(("measured on the first test set", "here", "published"), rows, name="The modality gap")


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
    return table(
        ("run", "steps", "first loss", "last loss", "samples/s"), rows, name="Training runs", style="numbers"
    )


def _clip(number: int, clip: ReportClip) -> str:
    """One clip: spectrogram, player, truth, captions."""
    from mats_ray.toy.report.charts import spectrogram

    samples, _ = soundfile.read(clip.path, dtype="float32")
    sound = base64.b64encode(clip.path.read_bytes()).decode("ascii")
    picture = base64.b64encode(spectrogram(samples)).decode("ascii")
    names = ("The method", "Without Santa")
    captions = "".join(
        f"<dt>{name}</dt><dd>{escape(text)} {mark(good=right)}</dd>"
        for name, (text, right) in zip(names, clip.captions, strict=True)
    )
    return (
        f"<article><h3>Clip {number} <small>{escape(clip.path.name)}</small></h3>"
        f'<img src="data:image/png;base64,{picture}" alt="Spectrogram of clip {number}">'
        f'<audio controls preload="metadata" src="data:audio/wav;base64,{sound}" '
        f'aria-label="Clip {number}"></audio>'
        f"<dl><dt>What it is</dt><dd>{escape(clip.truth)}</dd>{captions}</dl></article>"
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
    return table(("stage", "time", "share"), rows, name="Time by stage", style="times")


def _bar(share: float) -> str:
    return f'<div class="bar" role="img" aria-label="{share:.0%}" style="width:{share:.1%}"></div>'


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
