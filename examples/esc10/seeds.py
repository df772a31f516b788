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
from mats_ray.config.bridge import STATE_FILES

EVALUATE = CONFIG.with_name("evaluate.yaml")
VARIANTS = {
    "Santa on": "santa",
    "Santa off": "no_santa",
    "mean shift": "mean_shift",
    "projection": "projection",
    "spectral": "spectral",
}
"""Name of each variant of evaluate.yaml."""
COLUMNS = (*VARIANTS, "CLAP alone", "on less off")
BRIDGES = {"mean_shift": "audio", "projection": None, "spectral": "pairs"}
"""Bridges beside Santa, and the key of ``memory`` that names what each needs."""


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
        example("pairs"),
        *([*product("memory"), *_bridge_flags(bridge, folder)] for bridge in BRIDGES),
        *map(example, ("report", "annotations")),
        evaluate,
    ]


def _bridge_flags(bridge: str, folder: Path) -> list[str]:
    """Have ``mats memory`` build a bridge's state of the pairs, into the model directory."""
    settings = {"model.bridge": bridge, "memory.path": folder / "model" / STATE_FILES[bridge]}
    settings |= {f"memory.{BRIDGES[bridge]}": folder / "pairs.jsonl"} if BRIDGES[bridge] else {}
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def accuracies(folder: Path) -> dict[str, float] | None:
    """Read what one seed's evaluation found, in the order of ``COLUMNS``; None where it is not finished."""
    files = [folder / "evaluation" / name / "esc50" / "scores.json" for name in VARIANTS.values()]
    report = folder / "report.json"
    if not all(path.is_file() for path in (*files, report)):
        return None
    values = [json.loads(path.read_text())["measures"]["accuracy"]["value"] for path in files]
    alone = json.loads(report.read_text())["zero-shot of CLAP alone"]
    return dict(zip(COLUMNS, (*values, alone, values[0] - values[1]), strict=True))


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
