"""Results as one JSON and one page: goals beside what was measured, and every part's tables."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.sizes import BY_NAME


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A number that one H200 should reach."""

    what: str
    part: str
    figure: str
    least: float | None = None
    most: float | None = None
    scale: float = 1.0
    """Factor for printing."""
    unit: str = ""

    @property
    def wanted(self) -> str:
        """The goal in words."""
        sign, value = (">=", self.least) if self.least is not None else ("<=", self.most)
        assert value is not None
        return f"{sign} {value * self.scale:g}{self.unit}"

    def is_met(self, value: float) -> bool:
        """Whether a measurement reaches it; one that is not a number does not."""
        if self.least is not None:
            return value >= self.least
        return self.most is not None and value <= self.most


GOALS = (
    Goal(what="MFU of training", part="training", figure="mfu", least=0.5, scale=100, unit=" %"),
    Goal(what="captions/s through CLAP's text tower", part="clap", figure="texts_per_s", least=30_000),
    Goal(what="clips/s captioned greedily in all", part="caption", figure="clips_per_s", least=60),
    Goal(
        what="first token of a request, p50, 16 clients",
        part="service",
        figure="first_token_p50_ms",
        most=60,
        unit=" ms",
    ),
)


def verdict(goal: Goal, environment: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return met or missed, or why there is neither."""
    part = parts.get(goal.part, {})
    if goal.figure not in part.get("figures", {}):
        return f"not measured{_because(part)}"
    if environment["device"] != "cuda" or not BY_NAME[environment["size"]].is_full:
        return "no goal for this device and size"
    return "met" if goal.is_met(part["figures"][goal.figure]) else "missed"


def _because(part: Mapping[str, Any]) -> str:
    """Say why a part has no figure, if it is known."""
    if part.get("status") == "not run":
        return f": the part {part['part']} was not run" + (f", {part['error']}" if "error" in part else "")
    return f": the part {part['part']} failed, {part['error']}" if "error" in part else ""


def results(environment: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put everything into one tree."""
    by_name = {part["part"]: part for part in parts}
    goals = [
        {
            "goal": goal.what,
            "wanted": goal.wanted,
            "measured": by_name.get(goal.part, {}).get("figures", {}).get(goal.figure),
            "verdict": verdict(goal, environment, by_name),
        }
        for goal in GOALS
    ]
    return {"environment": dict(environment), "goals": goals, "parts": list(parts)}


def page(tree: Mapping[str, Any]) -> str:
    """Write the results as Markdown."""
    where = tree["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    lines = [
        f"# {where['device_name']}, size {where['size']}",
        "",
        f"{where['date']}, code {where['revision']}, {versions}.",
        "",
        "| goal, one H200 | wanted | measured | |",
        "|---|---|---|---|",
    ]
    for goal, row in zip(GOALS, tree["goals"], strict=True):
        measured = _shown(goal, row["measured"])
        lines.append(f"| {row['goal']} | {row['wanted']} | {measured} | {_cell(row['verdict'])} |")
    lines += ["", "| part | state | seconds | |", "|---|---|---|---|"]
    for part in tree["parts"]:
        lines.append(
            f"| {part['part']} | {part['status']} | {part['seconds']:.0f} | {_cell(part.get('error', ''))} |"
        )
    for part in tree["parts"]:
        lines += ["", f"## {part['part']}", ""]
        lines += [f"- {name}: {_cell(value)}" for name, value in part.get("figures", {}).items()]
        for table in part.get("tables", []):
            lines += ["", table["title"], "", "| " + " | ".join(table["columns"]) + " |"]
            lines.append("|" + "---|" * len(table["columns"]))
            lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table["rows"]]
        notes = [*part.get("notes", []), *(f"**{failure}**" for failure in part.get("failures", []))]
        lines += ["", *(f"- {_cell(note)}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def goal_lines(tree: Mapping[str, Any]) -> Iterator[str]:
    """Say of each goal in one line what was measured, or why nothing was."""
    for goal, row in zip(GOALS, tree["goals"], strict=True):
        yield f"{row['goal']}: {_shown(goal, row['measured'])} (wanted {row['wanted']}): {row['verdict']}"


def _shown(goal: Goal, value: float | None) -> str:
    return "-" if value is None else f"{value * goal.scale:,.4g}{goal.unit}"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return str(value).replace("|", "/").replace("\n", " ")


def write(folder: Path, tree: Mapping[str, Any]) -> None:
    """Write ``results.json`` and ``results.md``."""
    (folder / "results.json").write_text(json.dumps(tree, indent=1) + "\n")
    (folder / "results.md").write_text(page(tree))
