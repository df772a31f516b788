"""Write the data sets of Inspect and EvalScope from a table of clips, questions and answers.

The table is CSV or JSON lines with the columns ``path``, ``question`` and ``answer``; paths are absolute or
relative to the table's folder. ``mats caption --audio TABLE`` reads the same file. Standard library only.

    OUT/inspect.jsonl               one line per question, read by inspect_demo.py
    OUT/evalscope/questions.jsonl   the subset "questions" of EvalScope's general_vqa
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

COLUMNS = ("path", "question", "answer")
SUBSET = "questions"


class Row(NamedTuple):
    """A question about a clip."""

    path: Path
    """Absolute."""
    question: str
    answer: str

    @property
    def format(self) -> str:
        """One of the two words that OpenAI's interface knows; the service reads the bytes."""
        return "mp3" if self.path.suffix.lower() == ".mp3" else "wav"


def read_table(table: Path) -> list[Row]:
    """Read the table.

    Raises:
        ValueError: It has no rows, a row lacks a column or is empty there, or names a file that is not there.
    """
    rows = list[Row]()
    for number, cells in enumerate(_records(table), start=1):
        if missing := [name for name in COLUMNS if not str(cells.get(name) or "").strip()]:
            raise ValueError(f"{table}: row {number} has no {' and no '.join(missing)}")
        path = (table.parent / cells["path"]).resolve()
        if not path.is_file():
            raise ValueError(f"{table}: row {number} names {path}, which is not there")
        rows.append(Row(path, cells["question"], cells["answer"]))
    if not rows:
        raise ValueError(f"{table} has no rows")
    return rows


def _records(table: Path) -> Iterable[dict[str, str]]:
    text = table.read_text("utf-8-sig")
    if table.suffix.lower() == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return csv.DictReader(text.splitlines(keepends=True))


def write(rows: Sequence[Row], out: Path) -> tuple[Path, Path]:
    """Write both data sets below a folder; returns the file of Inspect's and the folder of EvalScope's."""
    inspect, evalscope = out / "inspect.jsonl", out / "evalscope"
    evalscope.mkdir(parents=True, exist_ok=True)
    _write_lines(inspect, map(inspect_record, range(len(rows)), rows))
    _write_lines(evalscope / f"{SUBSET}.jsonl", map(evalscope_record, rows))
    return inspect, evalscope


def inspect_record(number: int, row: Row) -> dict[str, object]:
    """Make a line of Inspect's data set; its id is the number of the row, from 0."""
    return {
        "id": number,
        "audio": str(row.path),
        "format": row.format,
        "question": row.question,
        "answer": row.answer,
    }


def evalscope_record(row: Row) -> dict[str, object]:
    """Make a line of EvalScope's data set, which holds messages as OpenAI's interface has them.

    A path may stand for the sound: EvalScope reads the file and sends its base64.
    """
    content = [
        {"type": "text", "text": row.question},
        {"type": "input_audio", "input_audio": {"data": str(row.path), "format": row.format}},
    ]
    return {"messages": [{"role": "user", "content": content}], "answer": row.answer}


def _write_lines(path: Path, records: Iterable[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")


def main() -> int:
    """Read the command line, write the data sets, print where they are."""
    parser = argparse.ArgumentParser(description="Write data sets for Inspect and EvalScope.")
    parser.add_argument("table", type=Path, help="CSV or JSON lines: path, question, answer")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of both data sets")
    args = parser.parse_args()
    try:
        rows = read_table(args.table)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    inspect, evalscope = write(rows, args.out)
    print(f"{len(rows)} questions in {inspect} and in {evalscope}/{SUBSET}.jsonl")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
