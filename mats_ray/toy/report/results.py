"""The demo's numbers in words: a table, the comparison with five seeds, what contradicts the paper."""

import json
from importlib import resources
from typing import Any

METHOD, CEILING = "text_noise_santa", "audio_supervised"
SYSTEMS = {
    METHOD: "text only + noise + Santa (the method)",
    "text_noise": "without Santa",
    "text_santa": "without noise",
    "text_only": "neither",
    CEILING: "trained on audio",
    "text_embedding": "the method, given the text's embedding",
    "floor": "always the most frequent answer",
}
TEST_SETS = {"read": "scenes read of", "novel": "novel scenes"}
"""Scenes that training texts tell of, as in the paper's benchmarks, and scenes that they do not."""
MEASURES = {"caption_all_sounds": "captions", "questions_right": "questions"}
MEANINGS = {
    "caption_all_sounds": "captions: share that name all sounds of the clip and no other",
    "questions_right": "questions: share answered right",
}
GAP = {
    "matching": ("cosine of audio and its text", "0.3 to 0.6 (CLAP scores of real pairs)"),
    "others": ("cosine of audio and other texts", ""),
    "centroids": ("distance of the centroids", "0.82 (CLIP; Liang et al., 2022)"),
    "recall_at_1": ("nearest text tells of such a scene", ""),
    "matching_after_santa": ("cosine after Santa", ""),
    "centroids_after_santa": ("distance of the centroids after Santa", ""),
}
"""What is measured, and what is published of real models."""
GAP_RANGES = {"matching": (0.3, 0.6), "centroids": (0.6, 2.0)}
_STUDENT_95_OF_FIVE = 2.776


def five_seeds() -> dict[str, Any] | None:
    """The results of five seeds that ``benchmarks/demo_seeds.py`` wrote, if it has."""
    file = resources.files("mats_ray.toy.report").joinpath("five_seeds.json")
    return json.loads(file.read_text("utf-8")) if file.is_file() else None


def measured_systems(metrics: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Label and scores, by test set, of each system that has some."""
    return [(label, of) for system, label in SYSTEMS.items() if (of := metrics["systems"].get(system))]


def score_columns(metrics: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Heading by test set and measure, of the test sets that the method has been measured on."""
    return {
        (name, measure): f"{where}: {what}"
        for name, where in TEST_SETS.items()
        if name in metrics["systems"][METHOD]
        for measure, what in MEASURES.items()
    }


def method_shares(metrics: dict[str, Any]) -> tuple[str, str]:
    """The method's captions and questions on the first test set, in per cent."""
    of = metrics["systems"][METHOD]["read"]
    return f"{of['caption_all_sounds']:.0%}", f"{of['questions_right']:.0%}"


def results_table(metrics: dict[str, Any]) -> str:
    """Lay out the systems' results as plain text, a column for each test set and measure."""
    columns = score_columns(metrics)
    rows = [("", *columns.values())]
    rows += [
        (label, *(share(of.get(name), measure) for name, measure in columns))
        for label, of in measured_systems(metrics)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *others = widths
    lines = ["  ".join([label.ljust(first), *map(str.rjust, values, others)]) for label, *values in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def share(score: dict[str, Any] | None, measure: str) -> str:
    """A share with its standard error."""
    return "" if score is None else f"{score[measure]:.3f} +- {score[f'{measure}_error']:.3f}"


def gap_rows(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The modality gap of the first test set, what text alone says of it, and what is published."""
    gap, alone = metrics["gap"]["read"], metrics["gap"]["text_alone"]
    return [
        *((label, f"{gap[key]:.2f}", known) for key, (label, known) in GAP.items()),
        ("cosine of two texts of one scene", f"{alone['captions_of_one_scene']:.3f}", ""),
        ("noise variance by text alone", f"{alone['noise_variance']:.4f}", "0.016 (CapDec, for CLIP)"),
    ]


def gap_lines(metrics: dict[str, Any]) -> list[str]:
    """The same as lines."""
    return [
        f"{label}: {value}{f' (published: {known})' if known else ''}"
        for label, value, known in gap_rows(metrics)
    ]


def comparisons(metrics: dict[str, Any]) -> list[str]:
    """What noise and Santa bring on the first test set, with the 95 % intervals of pairs of answers."""
    lines = []
    for system, what in (("text_noise", "Santa"), ("text_santa", "noise")):
        if one := metrics["method_minus"].get(system, {}).get("read"):
            parts = (
                f"{MEASURES[measure]} {d['mean']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f})"
                for measure, d in one.items()
            )
            lines.append(f"{what} brings: {', '.join(parts)}")
    return lines


def against_five_seeds(metrics: dict[str, Any], known: dict[str, Any] | None) -> list[str]:
    """Say whether the method's result is what five other worlds lead to expect of a sixth."""
    if known is None:
        return []
    lines = []
    for measure, name in MEASURES.items():
        of = known["systems"][METHOD]["read"][measure]
        half = _STUDENT_95_OF_FIVE * of["deviation"] * (1 + 1 / len(known["seeds"])) ** 0.5
        value = metrics["systems"][METHOD]["read"][measure]
        verdict = "as expected" if abs(value - of["mean"]) <= half else "not as expected"
        lines.append(
            f"{name} {value:.3f}: {verdict}; five seeds gave {of['mean']:.3f} +- {of['error']:.3f}, "
            f"so one more lies between {max(of['mean'] - half, 0):.2f} and {min(of['mean'] + half, 1):.2f}"
        )
    return lines


def contradictions(metrics: dict[str, Any]) -> list[str]:
    """List, one sentence each, where the numbers do not bear out what the paper claims."""
    found = [
        f"{claim} on {where}, {measure}: {d['mean']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f})."
        for system, claim in (("text_santa", "Noise does not help"), ("text_noise", "Santa does not help"))
        for where, measure, d in _differences(metrics, system)
        if d["mean"] <= 0
    ]
    found += [
        f"Training on audio is no ceiling on {where}, {measure}: the method has {d['mean']:+.3f}."
        for where, measure, d in _differences(metrics, CEILING)
        if d["low"] > 0
    ]
    found += [
        f"Santa does not bring audio nearer to text on {TEST_SETS[name]}."
        for name, gap in metrics["gap"].items()
        if name in TEST_SETS and gap["centroids_after_santa"] >= gap["centroids"]
    ]
    first = metrics["gap"]["read"]
    return found + [
        f"The {GAP[key][0]} is {first[key]:.2f}, outside of {low} to {high}."
        for key, (low, high) in GAP_RANGES.items()
        if not low <= first[key] <= high
    ]


def _differences(metrics: dict[str, Any], system: str) -> list[tuple[str, str, dict[str, float]]]:
    of = metrics["method_minus"].get(system, {})
    return [
        (TEST_SETS[name], MEASURES[measure], d)
        for name, measures in of.items()
        for measure, d in measures.items()
    ]
