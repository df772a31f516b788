"""The whole recipe over several seeds, each from its captions to its evaluation: mean and standard error.

python -m examples.esc10.seeds --data ../shared/data [--seeds 0 1 2] [--out out/esc10_seeds]

A seed draws anew the weights and batches of CLAP, of its teacher and of the language model; order, weights
and noise of training on text; and the Santa memory. Recordings and captions stay. Seeds run in turn;
one whose results are there is not run again. Prints the table of README.md.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from examples.esc10.run import CONFIG

EVALUATE = CONFIG.with_name("evaluate.yaml")
COLUMNS = ("Santa on", "Santa off", "CLAP alone", "on less off")


def stages(seed: int, folder: Path, data: Path) -> list[list[str]]:
    """Return the commands of README.md for one seed, with a folder of its own."""
    settings = {"seed": seed, "output_dir": folder}
    settings |= {"model.clap.ref": folder / "clap", "model.llm.path": folder / "llm"}
    flags = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]

    def example(stage: str) -> list[str]:
        return [sys.executable, "-m", "examples.esc10.run", stage, "--data", str(data), *flags]

    def product(command: str) -> list[str]:
        return ["mats", command, "--config", str(CONFIG), *flags]

    evaluate = ["mats", "evaluate", "--config", str(EVALUATE), "--benchmark", "esc50"]
    evaluate += ["--annotations", str(folder / "esc50.csv"), "--audio", str(data / "esc10")]
    evaluate += ["--model", str(folder / "model"), "--out", str(folder / "evaluation")]
    return [
        *map(example, ("texts", "clap", "llm")),
        *map(product, ("embed", "memory", "train")),
        *map(example, ("report", "annotations")),
        evaluate,
    ]


def accuracies(folder: Path) -> dict[str, float] | None:
    """Read what one seed's evaluation found, in the order of ``COLUMNS``; None where it is not finished."""
    on, off = (folder / "evaluation" / name / "esc50" / "scores.json" for name in ("santa", "no_santa"))
    report = folder / "report.json"
    if not all(path.is_file() for path in (on, off, report)):
        return None
    santa, plain = (json.loads(path.read_text())["measures"]["accuracy"]["value"] for path in (on, off))
    alone = json.loads(report.read_text())["zero-shot of CLAP alone"]
    return dict(zip(COLUMNS, (santa, plain, alone, santa - plain), strict=True))


def table(found: Mapping[int, Mapping[str, float]]) -> str:
    """One row per seed, then mean and standard error of the mean over the seeds."""
    lines = [f"| seed | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for seed, one in found.items():
        lines.append(f"| {seed} | {' | '.join(_number(name, one[name]) for name in COLUMNS)} |")
    cells = (_over_seeds(name, [one[name] for one in found.values()]) for name in COLUMNS)
    return "\n".join([*lines, f"| mean ± standard error | {' | '.join(cells)} |"])


def _over_seeds(name: str, values: Sequence[float]) -> str:
    error = np.std(values, ddof=1) / len(values) ** 0.5
    return f"{_number(name, float(np.mean(values)))} ± {error:.3f}"


def _number(name: str, value: float) -> str:
    return f"{value:+.3f}" if name == COLUMNS[-1] else f"{value:.3f}"


def main() -> None:
    """Run what is missing, and print the table."""
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=how)
    parser.add_argument("--data", type=Path, required=True, help="folder with esc10/ and annotations/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("out/esc10_seeds"))
    args = parser.parse_args()
    if len(set(args.seeds)) < 2:
        parser.error("--seeds: an error over seeds needs two different ones at least")
    found = {}
    for seed in args.seeds:
        folder = args.out / str(seed)
        if accuracies(folder) is None:
            for command in stages(seed, folder, args.data):
                subprocess.run(command, check=True)  # noqa: S603  (our own command line)
        found[seed] = accuracies(folder)
    print(table(found))


if __name__ == "__main__":
    main()
