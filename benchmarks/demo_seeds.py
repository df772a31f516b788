"""The demo's result over five seeds: world, training and test clips drawn anew for each.

    nice python benchmarks/demo_seeds.py [--seeds 0 1 2 3 4] [--out out/demo_seeds]

Runs ``mats demo`` once for each seed, one after the other; a run that is there is taken as it is.
Then prints the tables; those of five seeds go into benchmarks/demo.md, their numbers into the file that later
demos compare theirs with.
"""

import argparse
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mats_ray.toy.demo.results import MEASURES
from mats_ray.toy.report import results
from mats_ray.toy.report.results import GAP, METHOD, SYSTEMS, TEST_SETS

PAGE = Path(__file__).with_name("demo.md")
START, END = "<!-- five seeds -->", "<!-- end -->"
NUM_SEEDS = 5
NUMBERS = Path(results.__file__).with_name("five_seeds.json")


def run(seed: int, out: Path) -> dict[str, Any]:
    """Run one demo, unless it is finished, and return its numbers."""
    folder = out / str(seed)
    finished = folder / "metrics.json"
    tree = json.loads(finished.read_text()) if finished.is_file() else {"systems": {}}
    if results.CEILING not in tree["systems"]:
        command = ["mats", "demo", "--config", "configs/toy.yaml", "--set", f"seed={seed}"]
        subprocess.run([*command, "--set", f"output_dir={folder}"], check=True)
    return json.loads(finished.read_text())


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, standard error and deviation over seeds."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "seeds": [one["seed"] for one in runs],
        "systems": {
            system: {
                name: {
                    measure: _over_seeds([one["systems"][system][name][measure] for one in runs])
                    for measure in MEASURES
                }
                for name in TEST_SETS
            }
            for system in SYSTEMS
        },
        "method_minus": {
            system: {
                name: {
                    measure: _over_seeds([one["method_minus"][system][name][measure]["mean"] for one in runs])
                    for measure in MEASURES
                }
                for name in TEST_SETS
            }
            for system in SYSTEMS
            if system != METHOD
        },
        "gap": {
            name: {key: _over_seeds([one["gap"][name][key] for one in runs]) for key in runs[0]["gap"][name]}
            for name in (*TEST_SETS, "text_alone")
        },
    }


def _over_seeds(values: list[float]) -> dict[str, float]:
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    error = deviation / len(values) ** 0.5
    low, high = mean - _T * error, mean + _T * error
    return {"mean": mean, "error": error, "deviation": deviation, "low": low, "high": high}


_T = 2.776
"""Student's t for a 95 % interval of five values."""


def tables(tree: dict[str, Any]) -> str:
    """As in benchmarks/demo.md."""
    columns = [(name, measure) for name in TEST_SETS for measure in MEASURES]
    heads = [f"{TEST_SETS[name]}: {results.MEASURES[measure]}" for name, measure in columns]
    lines = [f"| system | {' | '.join(heads)} |", "|---|" + "---|" * len(columns)]
    for system, label in SYSTEMS.items():
        cells = (_cell(tree["systems"][system][name][measure]) for name, measure in columns)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    lines += ["", f"| the method less | {' | '.join(heads)} |", "|---|" + "---|" * len(columns)]
    for system in ("text_noise", "text_santa", "text_only", results.CEILING, "text_embedding"):
        cells = (_difference(tree["method_minus"][system][name][measure]) for name, measure in columns)
        lines.append(f"| {SYSTEMS[system]} | {' | '.join(cells)} |")
    lines += ["", "| gap, first test set | here | published |", "|---|---|---|"]
    for key, (label, known) in GAP.items():
        lines.append(f"| {label} | {_cell(tree['gap']['read'][key])} | {known} |")
    for key, one in tree["gap"]["text_alone"].items():
        lines.append(f"| {key.replace('_', ' ')} | {one['mean']:.4f} | |")
    return "\n".join(lines)


def _cell(one: dict[str, float]) -> str:
    return f"{one['mean']:.3f} ± {one['error']:.3f}"


def _difference(one: dict[str, float]) -> str:
    return f"{one['mean']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"


def main() -> None:
    """Run what is missing, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("out/demo_seeds"))
    args = parser.parse_args()
    seeds, runs = args.seeds, [run(seed, args.out) for seed in args.seeds]
    tree = summary(runs)
    found = f"{tree['date']}, seeds {', '.join(map(str, seeds))}. Mean and standard error over seeds"
    text = f"{found}; differences with the 95 % interval of five pairs.\n\n{tables(tree)}\n"
    print(text)
    for one in runs:
        print(one["seed"], one["wall_seconds"], one["peak_memory_gb"])
    if len(seeds) == NUM_SEEDS:
        NUMBERS.write_text(json.dumps(tree, indent=1) + "\n", "utf-8")
        before, rest = PAGE.read_text("utf-8").split(START)
        PAGE.write_text(f"{before}{START}\n{text}{END}{rest.split(END)[1]}", "utf-8")


if __name__ == "__main__":
    main()
