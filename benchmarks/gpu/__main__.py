"""Everything a GPU must show, one command: tests, training, CLAP, generation, the caption job, the service.

    python -m benchmarks.gpu                       # a card with 80 GB or more; 25 minutes at most
    python -m benchmarks.gpu --size tiny           # the same code on a CPU, to see that it runs
    python -m benchmarks.gpu --only training clap  # some parts
    python -m benchmarks.gpu --again training      # measure a part anew

Results are kept by part: called again, the command goes on with what is not done, as long as the code is the
same. It writes ``results.json`` and ``results.md`` after every part, and ends with 1 if one failed or was not
run; of a part that failed or ran out of time it keeps what was measured until then.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from benchmarks.gpu.parts import BY_NAME as PARTS_BY_NAME
from benchmarks.gpu.parts import PARTS, Outcome, with_those_before

RUN_PART = "--run-part"


def main() -> int:
    args = arguments()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if args.run_part:
        return run_part(*args.run_part, size=args.size, device=args.device)
    from benchmarks.gpu import report
    from benchmarks.gpu.suite import Suite, environment

    device = args.device or default_device()
    size = args.size or ("7b" if device == "cuda" else "tiny")
    command = [sys.executable, "-m", "benchmarks.gpu", "--size", size, "--device", device, RUN_PART]
    folder = args.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    suite = Suite(folder=folder, environment=environment(size, device), command=command)
    print(
        f"{suite.environment['device_name']}, size {size}, code {suite.environment['revision']}", flush=True
    )
    ends = time.monotonic() + 60 * args.minutes
    wanted = with_those_before(args.only or list(PARTS_BY_NAME))
    for name in wanted:
        found = suite.run(PARTS_BY_NAME[name], limit_s=ends - time.monotonic(), again=name in args.again)
        how = "done before" if found.get("was_kept") else f"{found['seconds']:.0f} s"
        print(f"{name}: {found['status']} ({how}) {found.get('error', '')}", flush=True)
        report.write(folder, report.results(suite.environment, suite.results(PARTS)))
    tree = json.loads((folder / "results.json").read_text())
    for line in report.goal_lines(tree):
        print(line)
    print(folder / "results.md")
    return int(any(part["status"] != "ok" for part in tree["parts"] if part["part"] in wanted))


def run_part(name: str, path: str, *, size: str, device: str) -> int:
    """Measure one part in this process."""
    from benchmarks.gpu.sizes import BY_NAME

    PARTS_BY_NAME[name].run(BY_NAME[size], device, Outcome(file=Path(path)))
    return 0


def default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--size", choices=("7b", "tiny"), help="default: 7b on a card, tiny on a CPU")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: the card, if there is one")
    parser.add_argument("--only", nargs="+", choices=list(PARTS_BY_NAME), help="parts to run")
    parser.add_argument("--again", nargs="+", choices=list(PARTS_BY_NAME), default=[], help="measure anew")
    parser.add_argument("--minutes", type=float, default=25, help="end of it all (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), help="default: %(default)s")
    parser.add_argument(RUN_PART, nargs=2, metavar=("PART", "FILE"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
