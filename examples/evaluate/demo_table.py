"""Write a table of yes/no questions about the demo's test clips, as ``write_dataset.py`` reads it.

Every clip has one question about a sound that is there and one about a sound that is not; even clips give the
first, odd clips the second, so that always answering yes is right in half of them.
"""

import argparse
import csv
from pathlib import Path

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
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="the table")
    args = parser.parse_args()
    clips = write_test_set(load_config(args.config), args.demo / "audio", READ_STREAM)[: args.clips]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "question", "answer"))
        for number, clip in enumerate(clips):
            qa = question_of(number, clip)
            table.writerow((clip.path, qa.question, qa.answer))
    print(f"{len(clips)} questions in {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
