"""The report's pictures: systems, modality gap, cosines, loss curves as inline SVG; spectrograms as PNG.

Colours are CSS variables of the page, so that the pictures follow its light or dark theme. Imported only
where a report is written: importing it costs a second.

Shapes: N points of a set, M points of all sets, C CLAP dim, P points drawn.
"""

import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import LogLocator, NullLocator

MAX_POINTS = 400
"""Drawn of each set of embeddings; the plane is fitted to all of them."""
_WINDOW = 512
_SIZE_INCHES = (4.6, 3.6)  # narrow, so that the lettering is still readable on a phone

# matplotlib accepts real colours only: these are replaced by variables of the page in the finished SVG.
_INK, _LINE = "#000001", "#000002"
_SERIES = ("#000011", "#000012", "#000013", "#000014")
_VARIABLES = {_INK: "var(--ink)", _LINE: "var(--line)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, start=1)
}
_OPENING = re.compile(r'^.*?<svg[^>]*(viewBox="[^"]*")[^>]*>', re.DOTALL)
_DASHES = ("-", "--", ":", "-.")
_STYLE: dict[Any, object] = {  # matplotlib has a type for the keys, but under this name only lately
    "svg.fonttype": "none",  # letters, not outlines: they take the page's font and can be searched
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _LINE,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "grid.color": _LINE,
    "grid.alpha": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.markerscale": 1.2,
}


@dataclass(frozen=True, slots=True)
class Plane:
    """A plane that shows the distance between two centroids as it is.

    Its first axis runs from one to the other; its second is where the embeddings vary most besides.
    """

    origin_C: np.ndarray
    axes_2C: np.ndarray

    def project(self, points_NC: np.ndarray) -> np.ndarray:
        """Return coordinates in the plane, (N, 2)."""
        return (points_NC - self.origin_C) @ self.axes_2C.T


def fit_plane(text_NC: np.ndarray, audio_NC: np.ndarray) -> Plane:
    """Lay the plane through both centroids; the text's is its origin."""
    text_NC, audio_NC = (points_NC.astype(np.float64) for points_NC in (text_NC, audio_NC))
    origin_C = text_NC.mean(axis=0)
    apart_C = audio_NC.mean(axis=0) - origin_C
    first_C = apart_C / max(float(np.linalg.norm(apart_C)), np.finfo(float).tiny)
    within_MC = np.concatenate([text_NC - origin_C, audio_NC - audio_NC.mean(axis=0)])
    within_MC -= np.outer(within_MC @ first_C, first_C)
    _, _, directions = np.linalg.svd(within_MC, full_matrices=False)
    return Plane(origin_C, np.stack([first_C, directions[0]]))


def loss_chart(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Draw the loss of each run over its steps; every run has its own colour and its own dashes."""
    with rc_context(_STYLE):
        figure = Figure(_SIZE_INCHES, layout="constrained")
        axes = figure.subplots()
        looks = zip(itertools.cycle(_SERIES), itertools.cycle(_DASHES), strict=True)
        for (name, records), (colour, dash) in zip(curves.items(), looks, strict=False):
            points = [(r["step"], r["loss"]) for r in records if math.isfinite(r["loss"])]
            steps, losses = zip(*points, strict=True) if points else ((), ())
            axes.plot(steps, losses, dash, color=colour, label=name, linewidth=1.6, marker=".", markersize=3)
        axes.set(xlabel="training step", ylabel="loss (nats per token, log scale)", yscale="log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        _legend(figure, num_columns=1)
        return _svg(figure, "loss", "Line chart: loss over training steps, one line for each training run.")


def gap_charts(
    text_NC: np.ndarray, noised_NC: np.ndarray, audio_NC: np.ndarray, moved_NC: np.ndarray
) -> tuple[str, str, str]:
    """Draw texts and audio in one plane, on the same axes: without noise, with noise, after Santa."""
    plane = fit_plane(text_NC, audio_NC)
    text_N2, noised_N2, audio_N2, moved_N2 = map(plane.project, (text_NC, noised_NC, audio_NC, moved_NC))
    drawn = np.concatenate([_drawn(points) for points in (text_N2, noised_N2, audio_N2, moved_N2)])
    margin = 0.05 * np.ptp(drawn, axis=0) + 1e-6
    limits = (drawn.min(axis=0) - margin, drawn.max(axis=0) + margin)
    text, noised = ("text", "o", _SERIES[0]), ("text with noise", "o", _SERIES[3])
    audio, moved = ("audio", "^", _SERIES[1]), ("audio after Santa", "s", _SERIES[2])
    return (
        _gap_chart("plain", limits, (text_N2, text), (audio_N2, audio)),
        _gap_chart("noise", limits, (noised_N2, noised), (audio_N2, audio)),
        _gap_chart("santa", limits, (noised_N2, noised), (moved_N2, moved)),
    )


Look = tuple[str, str, str]
"""Label, marker, colour."""


def _gap_chart(
    name: str,
    limits: tuple[np.ndarray, np.ndarray],
    one: tuple[np.ndarray, Look],
    other: tuple[np.ndarray, Look],
) -> str:
    """Scatter two sets, with their centroids and the line between."""
    with rc_context(_STYLE):
        figure = Figure(_SIZE_INCHES, layout="constrained")
        axes = figure.subplots()
        for points_N2, (label, marker, colour) in (one, other):
            _scatter(axes, points_N2, label, marker, colour)
        centroids_22 = np.stack([one[0].mean(axis=0), other[0].mean(axis=0)])
        axes.plot(*centroids_22.T, "-X", color=_INK, markersize=7, label="centroids")
        (left, bottom), (right, top) = limits
        axes.set(
            xlim=(left, right),
            ylim=(bottom, top),
            xlabel="from the centroid of text to that of audio",
            ylabel="where the rest varies most",
        )
        _legend(figure, num_columns=3)
        labels = f"{one[1][0]} and {other[1][0]}"
        return _svg(figure, name, f"Scatter plot: embeddings of {labels}, with their centroids.")


def cosine_chart(before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]) -> str:
    """Histograms of the cosines of audio with its own text and with others, before Santa and after."""
    with rc_context(_STYLE):
        figure = Figure((4.6, 4.2), layout="constrained")
        rows = figure.subplots(2, sharex=True)
        lowest = min(float(one.min()) for pair in (before, after) for one in pair if len(one))
        bins = np.linspace(min(lowest, 0.0), 1, 60)
        for axes, (matching, others), title in zip(
            rows, (before, after), ("audio", "audio after Santa"), strict=True
        ):
            axes.hist(others, bins, density=True, color=_SERIES[1], alpha=0.6, label="with other texts")
            axes.hist(matching, bins, density=True, color=_SERIES[0], alpha=0.6, label="with its own text")
            axes.set(title=title, yticks=[])
        rows[1].set(xlabel="cosine")
        handles, labels = rows[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
        return _svg(figure, "cosines", "Histograms: cosines of audio with its own text and with other texts.")


def systems_chart(rows: Sequence[tuple[str, Mapping[str, tuple[float, float]]]]) -> str:
    """Draw a share with its 95 % interval for each system, a row each, and each kind of share.

    Args:
        rows: Label of a system, and value and standard error by what is measured.
    """
    with rc_context(_STYLE):
        figure = Figure((6.4, 0.5 * len(rows) + 1.3), layout="constrained")
        axes = figure.subplots()
        names = list(rows[0][1]) if rows else []
        for index, name in enumerate(names):
            shares = [(place, *of[name]) for place, (_, of) in enumerate(rows) if name in of]
            places, values, errors = (np.array(column) for column in zip(*shares, strict=True))
            offset = (index - (len(names) - 1) / 2) * 0.18
            axes.errorbar(
                values,
                places + offset,
                xerr=1.96 * errors,
                fmt="os^D"[index % 4],
                color=_SERIES[index % 4],
                markersize=4.5,
                capsize=2,
                label=name,
            )
        axes.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.5, -0.5), xlabel="share right, with 95 % interval")
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        _legend(figure, num_columns=2)
        return _svg(figure, "systems", "Chart: share of captions and questions right, for each system.")


def spectrogram(samples: np.ndarray) -> bytes:
    """A small PNG: time to the right, frequency up to half the sample rate upwards, level as brightness."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[:: max(len(samples) // 400, 1)]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=1)) ** 2
    level = 10 * np.log10(power.T[::2] + 1e-6)
    buffer = io.BytesIO()
    top = level.max()
    imsave(buffer, level, cmap="magma", vmin=top - 70, vmax=top, origin="lower", format="png")
    return buffer.getvalue()


def _scatter(axes: Axes, points_N2: np.ndarray, label: str, marker: str, colour: str) -> None:
    axes.scatter(*_drawn(points_N2).T, s=18, marker=marker, c=colour, alpha=0.6, linewidths=0, label=label)


def _drawn(points_N2: np.ndarray) -> np.ndarray:
    """Return at most MAX_POINTS of the rows, evenly spaced, (P, 2)."""
    return points_N2[:: -(-len(points_N2) // MAX_POINTS)]


def _legend(figure: Figure, *, num_columns: int) -> None:
    handles = [handle for axes in figure.axes for handle in axes.get_legend_handles_labels()[0]]
    legend = figure.legend(
        handles=handles, loc="outside upper left", ncols=num_columns, columnspacing=1.0, handletextpad=0.4
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a run's name may hold a dollar sign


def _svg(figure: Figure, name: str, description: str) -> str:
    """Return the figure as an SVG element: as wide as its place, ids of its own, colours of the page."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.hashsalt": name}):  # the same numbers give the same bytes
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = _OPENING.sub(rf'<svg role="img" aria-label="{escape(description)}" \1>', buffer.getvalue(), count=1)
    for mark in ('id="', '"#', "url(#"):
        svg = svg.replace(mark, f"{mark}{name}-")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg
