"""Write a table of yes/no questions about the demo's test clips, and the same in a published format.

    DIR/table.csv       as write_dataset.py and mats caption read it
    DIR/clotho_aqa.csv  as mats evaluate reads it: the columns of ClothoAQA

A clip has questions about sounds that are there and about others; even clips give one of the first, odd ones
one of the second, so that answering yes each time is right in half of them.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

from examples.evaluate.write_dataset import COLUMNS
from mats_ray.config import load_config
from mats_ray.toy.demo.testset import TestClip, write_test_set
from mats_ray.toy.grammar import QA
from mats_ray.toy.world import READ_STREAM


def question_of(number: int, clip: TestClip) -> QA:
    """Return the question about a clip: its answer is yes for even numbers."""
    wanted = "no" if number % 2 else "yes"
    return next(qa for qa in clip.questions if qa.kind == "presence" and qa.answer == wanted)


def main() -> int:
    """Read the command line, write the table."""
    parser = argparse.ArgumentParser(description="Yes/no questions about the demo's test clips.")
    parser.add_argument("--config", default="configs/toy.yaml", help="of the demo (default: %(default)s)")
    parser.add_argument("--demo", type=Path, default=Path("out/demo"), metavar="DIR", help="its folder")
    parser.add_argument("--clips", type=int, default=40, metavar="N", help="number (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of both files")
    args = parser.parse_args()
    clips = write_test_set(load_config(args.config), args.demo / "audio", READ_STREAM)[: args.clips]
    args.out.mkdir(parents=True, exist_ok=True)
    questions = [(clip.path, question_of(number, clip)) for number, clip in enumerate(clips)]
    _write(args.out / "table.csv", COLUMNS, [(path, qa.question, qa.answer) for path, qa in questions])
    named = [(path.name, qa.question, qa.answer) for path, qa in questions]
    _write(args.out / "clotho_aqa.csv", ("file_name", "QuestionText", "answer"), named)
    print(f"{len(questions)} questions in {args.out}/table.csv and clotho_aqa.csv")
    return 0


def _write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


if __name__ == "__main__":
    raise SystemExit(main())
