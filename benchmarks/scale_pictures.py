"""Pictures of docs/scale.md: rates and the driver by number of nodes, and the model against measured runs.

    python -m benchmarks.scale_pictures docs/pictures

From ``traces/scale.json`` of ``simulate_caption`` and ``traces/caption.json`` of ``trace_caption``.
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

from benchmarks.simulate_caption import CLIPS_PER_GPU, GPUS_PER_NODE, NODES, SCALE, TRACES, validate

MAX_BYTES = 100_000
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "mats", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
SIZE = (6.4, 3.6)
TOLERANCE = 0.2


def nodes(folder: Path) -> None:
    """Draw clips a second by number of nodes."""
    found = json.loads(SCALE.read_text())["nodes"]
    figure, axes = plt.subplots(figsize=SIZE)
    ideal = [n * GPUS_PER_NODE * CLIPS_PER_GPU for n in NODES]
    axes.plot(NODES, ideal, "--", color="grey", label="all GPUs at work")
    for (name, lines), marker in zip(found.items(), "osD^v", strict=False):
        rates, errors = ([line[key] for line in lines] for key in ("clips_per_s", "error"))
        axes.errorbar([line["nodes"] for line in lines], rates, errors, marker=marker, ms=4, label=name)
    axes.set(xscale="log", yscale="log", xlabel="nodes of eight GPUs", ylabel="clips/s")
    axes.set_xticks(NODES, [str(n) for n in NODES])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    save(figure, folder / "scale_nodes.svg")


def driver(folder: Path) -> None:
    """Draw the share of its time that the driver is at work, and that of the GPUs."""
    found = json.loads(SCALE.read_text())["nodes"]
    figure, axes = plt.subplots(1, 2, figsize=SIZE, sharey=True, layout="constrained")
    for (name, lines), marker in zip(found.items(), "osD^v", strict=False):
        at = [line["nodes"] for line in lines]
        for one, key in zip(axes, ("efficiency", "driver"), strict=True):
            one.plot(at, [100 * line[key] for line in lines], marker=marker, ms=4, label=name)
    for one, title in zip(axes, ("GPUs at work", "driver at work"), strict=True):
        one.set(xscale="log", xlabel="nodes of eight GPUs", title=title, ylim=(0, 105))
        one.set_xticks(NODES[::2], [str(n) for n in NODES[::2]])
        one.minorticks_off()
    axes[0].set_ylabel("% of the time")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
    save(figure, folder / "scale_driver.svg")


def validation(folder: Path) -> None:
    """Draw predicted by measured, for every run."""
    compared = list(validate(json.loads(TRACES.read_text())))
    figure, axes = plt.subplots(figsize=(6.4, 0.32 * len(compared) + 1.2))
    axes.axvspan(1 - TOLERANCE, 1 + TOLERANCE, color="green", alpha=0.12)
    axes.axvline(1, color="grey", lw=1)
    for n, one in enumerate(reversed(compared)):
        axes.errorbar(
            one.ratio, n, xerr=one.error / one.measured if one.measured else 0, fmt="o", ms=4, color="C0"
        )
    axes.set_yticks(range(len(compared)), [f"{one.run}, {one.what}" for one in reversed(compared)])
    axes.set(xlabel="predicted / measured", xlim=(0, max(1.6, *(1.05 * one.ratio for one in compared))))
    save(figure, folder / "scale_validation.svg")


def save(figure: plt.Figure, path: Path) -> None:
    """Write a picture that is the same for the same numbers."""
    if figure.get_layout_engine() is None:
        figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    assert path.stat().st_size < MAX_BYTES, f"{path.name} has {path.stat().st_size} bytes"


def main(folder: Path) -> None:
    """Draw all."""
    with mpl.rc_context(STYLE):
        for draw in (nodes, driver, validation):
            draw(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
