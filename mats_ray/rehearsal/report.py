"""Tables of a rehearsal in Markdown: changes, stages, and the plan beside what was measured."""

from collections.abc import Iterator, Sequence

from mats_ray.rehearsal.changes import Change
from mats_ray.rehearsal.comparison import TOLERANCE, Comparison
from mats_ray.rehearsal.stages import StageResult

MOST_ROLES = 3
"""Roles of processes named per stage, the largest first."""
_SMALL_GB = 0.05


def report_lines(
    changes: Sequence[Change], stages: Sequence[StageResult], comparisons: Sequence[Comparison]
) -> Iterator[str]:
    """Yield the lines of all three tables."""
    yield "| changed | shipped | here | why |"
    yield "|---|---|---|---|"
    for one in changes:
        yield f"| {one.key} | {one.shipped_text} | {one.value_text} | {one.reason} |"
    yield ""
    yield "| stage | seconds | peak memory, GB | of its largest processes | written, MB |"
    yield "|---|---|---|---|---|"
    for stage in stages:
        yield (
            f"| {stage.name} | {stage.seconds:.0f} | {stage.total_gb:.1f} | {_roles(stage)} |"
            f" {stage.disk_bytes / 1e6:.1f} |"
        )
    yield ""
    yield "| stage | quantity | `mats plan` | measured | planned / measured |"
    yield "|---|---|---|---|---|"
    for one in comparisons:
        mark = "" if one.is_close else f" (off by more than {TOLERANCE:.0%})"
        ratio = f"{one.ratio:.2f}{mark}"
        yield f"| {one.stage} | {one.quantity} | {one.planned:.3g} | {one.measured:.3g} | {ratio} |"


def _roles(stage: StageResult) -> str:
    largest = sorted(stage.peaks_gb.items(), key=lambda item: -item[1])[:MOST_ROLES]
    return ", ".join(f"{role} {size:.1f}" for role, size in largest if size > _SMALL_GB)
