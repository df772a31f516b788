"""What an evaluation found, in lines for a terminal."""

from collections.abc import Mapping
from typing import Any

PAPER_MODEL = "MATS-LLaMA"
"""The row of published results that a summary shows."""


def summary_lines(results: Mapping[str, Mapping[str, Any]], *, out: str) -> list[str]:
    """Write every measure on a line: value, standard error, chance, samples, the paper's MATS-LLaMA.

    Args:
        results: ``scores.json`` by name of the benchmark.
        out: Folder of the evaluation.
    """
    lines = list[str]()
    for name, tree in results.items():
        lines += [f"{name}: {line}" for line in _lines_of(tree)]
    return [*lines, f"{out.rstrip('/')}/report.html"]


def _lines_of(tree: Mapping[str, Any]) -> list[str]:
    lines, counts = list[str](), tree["samples"]
    is_whole = counts["annotated"] == counts["published"]  # else the paper's is of another set
    for measure, one in tree["measures"].items():
        line = f"{measure} {one['value']:.4f} ± {one['error']:.4f}, {one['n']} samples"
        if one["chance"] is not None:
            line += f", chance {one['chance']:.4f}"
        if "n_with_audio" in one:
            line += f"; {one['value_with_audio']:.4f} over the {one['n_with_audio']} with audio"
        published = tree["results"].get(measure, {}).get(PAPER_MODEL)
        lines.append(f"{line}; {PAPER_MODEL} in the paper {published:g}" if is_whole and published else line)
    lines += [f"{measure} absent: {reason}" for measure, reason in tree["unavailable"].items()]
    if details := tree["details"]:
        lines.append(", ".join(f"{name}: {value}" for name, value in details.items()))
    if gap := tree["gap"]:
        lines.append(_gap_line(gap))
    return [*lines, _counts_line(counts)]


def _gap_line(gap: Mapping[str, float]) -> str:
    before, after = (
        f"cosine {gap[f'matching{when}']:.3f} (others {gap[f'others{when}']:.3f}), centroids "
        f"{gap[f'centroids{when}']:.3f} apart"
        for when in ("", "_after_santa")
    )
    return f"modality gap of {gap['clips']} clips: {before}; after the bridge: {after}"


def _counts_line(counts: Mapping[str, Any]) -> str:
    errors = ", ".join(f"{count} {code}" for code, count in counts["errors"].items())
    parts = [
        f"{counts['answered']} of {counts['annotated']} samples answered ({counts['published']} published)"
    ]
    parts += [f"{counts['empty']} empty answers"] if counts["empty"] else []
    parts += [f"errors: {errors}"] if errors else []
    missing = counts["missing_audio"] + counts["ambiguous_audio"]
    parts += [f"{missing} without audio or answer, counted as wrong"] if missing else []
    left_out = sum(counts["left_out"].values())
    return "; ".join([*parts, *([f"{left_out} records left out"] if left_out else [])])
