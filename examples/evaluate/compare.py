"""Compare what Inspect, EvalScope and ``mats evaluate`` recorded with ``mats caption``, question by question.

Every source is reduced to a ``Recorded`` per row of the table: the answer that was received, and whether the
tool itself counts it as right.
"""

import argparse
import json
import string
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from examples.evaluate.write_dataset import SUBSET, Row, read_table


class Recorded(NamedTuple):
    """What a tool recorded about one question."""

    answer: str
    right: bool | None
    """By the tool's own score; None: it has none."""


def inspect_records(log: Path) -> dict[int, Recorded]:
    """Read a log of ``inspect eval --log-format json``.

    Args:
        log: The file, or a folder: the newest log in it.

    Raises:
        ValueError: The folder has none, or the evaluation did not come to its end.
    """
    files = sorted(log.glob("*.json")) if log.is_dir() else [log]  # their names begin with the time
    if not files:
        raise ValueError(f"{log} has no log in JSON; run inspect eval with --log-format json")
    log_tree = json.loads(files[-1].read_text("utf-8"))
    if log_tree["status"] != "success":
        raise ValueError(f"{files[-1]}: the evaluation ended with status {log_tree['status']!r}")
    return {
        sample["id"]: Recorded(sample["output"]["completion"], sample["scores"]["exact"]["value"] == "C")
        for sample in log_tree["samples"]
    }


def evalscope_records(work_dir: Path) -> dict[int, Recorded]:
    """Read the reviews of ``evalscope eval --no-timestamp``, which lie in the order in which they ended."""
    found = dict[int, Recorded]()
    for file in work_dir.glob(f"reviews/*/general_vqa_{SUBSET}.jsonl"):
        for review in _lines(file):
            score = review["sample_score"]["score"]
            found[review["index"]] = Recorded(score["prediction"], score["value"]["Rouge-L-F"] > 0.99)
    return found


def caption_records(folder: Path, rows: Sequence[Row]) -> dict[int, Recorded]:
    """Read the rows of ``mats caption --format jsonl``, which names no tool's score: ``is_right`` is used."""
    lines = [line for file in folder.glob("*.jsonl") for line in _lines(file) if line["status"] == "ok"]
    answers = {(line["path"], line["prompt"]): line["answer"] for line in lines}
    return {
        number: Recorded(answer, is_right(answer, row.answer))
        for number, row in enumerate(rows)
        if (answer := answers.get((str(row.path), row.question))) is not None
    }


def evaluate_records(folder: Path, rows: Sequence[Row]) -> dict[int, Recorded]:
    """Read the log of samples of ``mats evaluate``, ``OUT/<benchmark>``."""
    lines = pq.read_table(folder / "samples.parquet").to_pylist()
    found = {(line["audio"], line["question"]): line for line in lines if line["status"] == "ok"}
    return {
        number: Recorded(line["answer"], None if line["score"] is None else line["score"] == 1)
        for number, row in enumerate(rows)
        if (line := found.get((str(row.path), row.question))) is not None
    }


def is_right(answer: str, expected: str) -> bool:
    """Whether an answer is the expected one, case and punctuation at its ends aside."""
    plain = [text.casefold().strip(string.punctuation + string.whitespace) for text in (answer, expected)]
    return plain[0] == plain[1]


def table_of(sources: Mapping[str, Mapping[int, Recorded]], num_rows: int) -> str:
    """Write a line per source: answers that are not empty, right ones, same ones as the first source has."""
    reference = next(iter(sources.values()))
    lines = [f"{'':<14}{'answered':>12}{'right':>12}{'same answer':>14}"]
    for name, records in sources.items():
        answered = sum(bool(record.answer.strip()) for record in records.values())
        scored = [record.right for record in records.values() if record.right is not None]
        same = sum(records[n].answer == reference[n].answer for n in records.keys() & reference.keys())
        counts = [f"{count}/{num_rows}" for count in (answered, sum(scored), same)]
        right = counts[1] if len(scored) == len(records) else f"{len(scored)} scored"
        lines.append(f"{name:<14}{counts[0]:>12}{right:>12}{counts[2]:>14}")
    return "\n".join(lines)


def differences(sources: Mapping[str, Mapping[int, Recorded]], rows: Sequence[Row]) -> list[str]:
    """List the questions that not all sources have the same answer to."""
    found = list[str]()
    for number, row in enumerate(rows):
        answers = {
            name: records[number].answer if number in records else None for name, records in sources.items()
        }
        if len(set(answers.values())) > 1:
            found.append(f"{row.path.name}, {row.question!r}: {answers}")
    return found


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines() if line]


def main() -> int:
    """Read the command line; exit code 1 when an answer differs or is missing, 2 for a bad file."""
    parser = argparse.ArgumentParser(description="Compare answers, question by question.")
    parser.add_argument("table", type=Path, help="as write_dataset.py reads it")
    parser.add_argument("--rows", type=Path, required=True, metavar="DIR", help="of mats caption, JSON lines")
    parser.add_argument("--evaluate", type=Path, metavar="DIR", help="OUT/<benchmark> of mats evaluate")
    parser.add_argument("--inspect", type=Path, metavar="LOG", help="log of Inspect, or its folder")
    parser.add_argument("--evalscope", type=Path, metavar="DIR", help="work directory of EvalScope")
    args = parser.parse_args()
    try:
        return _compare(args)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _compare(args: argparse.Namespace) -> int:
    rows = read_table(args.table)
    sources = {"mats caption": caption_records(args.rows, rows)}
    if args.evaluate:
        sources["mats evaluate"] = evaluate_records(args.evaluate, rows)
    if args.inspect:
        sources["inspect"] = inspect_records(args.inspect)
    if args.evalscope:
        sources["evalscope"] = evalscope_records(args.evalscope)
    print(table_of(sources, len(rows)))
    different = differences(sources, rows)
    print("\n".join(different), file=sys.stderr, end="\n" if different else "")
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
