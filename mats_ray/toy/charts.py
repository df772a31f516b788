"""The report's pictures as inline SVG: loss curves, and the modality gap before and after Santa.

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
from matplotlib.ticker import LogLocator, NullLocator

MAX_POINTS = 400
"""Drawn of each set of embeddings; the plane is fitted to all of them."""
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
    """The two directions in which all embeddings together vary most."""

    mean_C: np.ndarray
    axes_2C: np.ndarray
    shares: tuple[float, float]
    """Shares of the variance in each direction."""

    def project(self, points_NC: np.ndarray) -> np.ndarray:
        """Return coordinates in the plane, (N, 2)."""
        return (points_NC - self.mean_C) @ self.axes_2C.T


def fit_plane(sets_NC: Sequence[np.ndarray]) -> Plane:
    """Principal component analysis of several sets of embeddings together, by singular values."""
    stacked_MC = np.concatenate(sets_NC).astype(np.float64)
    mean_C = stacked_MC.mean(axis=0)
    _, singular, directions = np.linalg.svd(stacked_MC - mean_C, full_matrices=False)
    variance = singular**2
    first, second = variance[:2] / max(variance.sum(), np.finfo(float).tiny)
    return Plane(mean_C, directions[:2], (float(first), float(second)))


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


def gap_charts(text_NC: np.ndarray, audio_NC: np.ndarray, moved_NC: np.ndarray) -> tuple[str, str]:
    """Draw text with audio, and text with audio moved by Santa, in one plane on the same axes."""
    plane = fit_plane([text_NC, audio_NC, moved_NC])
    text_N2, audio_N2, moved_N2 = (plane.project(points) for points in (text_NC, audio_NC, moved_NC))
    drawn = np.concatenate([_drawn(points) for points in (text_N2, audio_N2, moved_N2)])
    margin = 0.05 * np.ptp(drawn, axis=0) + 1e-6
    limits = (drawn.min(axis=0) - margin, drawn.max(axis=0) + margin)
    return (
        _gap_chart("before", plane, limits, text_N2, audio_N2, ("audio", "^", _SERIES[1])),
        _gap_chart("after", plane, limits, text_N2, moved_N2, ("audio moved by Santa", "s", _SERIES[2])),
    )


def _gap_chart(
    name: str,
    plane: Plane,
    limits: tuple[np.ndarray, np.ndarray],
    text_N2: np.ndarray,
    other_N2: np.ndarray,
    look: tuple[str, str, str],
) -> str:
    """Scatter two sets, with their centroids and the line between."""
    label, marker, colour = look
    with rc_context(_STYLE):
        figure = Figure(_SIZE_INCHES, layout="constrained")
        axes = figure.subplots()
        _scatter(axes, text_N2, "text", "o", _SERIES[0])
        _scatter(axes, other_N2, label, marker, colour)
        centroids_22 = np.stack([text_N2.mean(axis=0), other_N2.mean(axis=0)])
        axes.plot(*centroids_22.T, "-X", color=_INK, markersize=7, label="centroids")
        (left, bottom), (right, top) = limits
        axes.set(
            xlim=(left, right),
            ylim=(bottom, top),
            xlabel=f"first principal component ({plane.shares[0]:.0%} of variance)",
            ylabel=f"second ({plane.shares[1]:.0%} of variance)",
        )
        _legend(figure, num_columns=3)
        return _svg(figure, name, f"Scatter plot: embeddings of text and of {label}, with their centroids.")


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
