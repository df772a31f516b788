"""The model of the captioning job (``caption_model``) against measured runs, and asked about 8 to 256 nodes.

    python -m benchmarks.simulate_caption validate          # seconds
    python -m benchmarks.simulate_caption scale             # minutes; writes benchmarks/traces/scale.json
    python -m benchmarks.scale_pictures docs/pictures       # pictures of both

``validate`` takes service times from ``traces/caption.json`` (``trace_caption``) and prints measured and
predicted numbers side by side. The driver's costs are fitted to its CPU time alone, batches to those of the
run with one decoder and one model, starts to the calibration of the kill benchmark.
``scale``: nodes of eight GPUs at a stated rate, slow and failing storage, stragglers, nodes that die.
"""

import argparse
import json
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import simpy
from scipy.optimize import nnls

from benchmarks.caption_model import (
    CaptionSimulation,
    Driver,
    Failures,
    Process,
    Scenario,
    Storage,
    constant,
    mean_and_error,
    samples,
)
from tests.kills import SECTIONS, Kill

TRACES = Path(__file__).parent / "traces" / "caption.json"
SCALE = TRACES.with_name("scale.json")
BATCH_SIZE = 32
SEEDS = range(5)
POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A measured number and the model's."""

    run: str
    what: str
    measured: float
    predicted: float
    error: float
    """Standard error over seeds."""

    @property
    def ratio(self) -> float:
        """Predicted by measured."""
        return self.predicted / self.measured if self.measured else math.nan


# What was measured, as parameters


def fitted_driver(traces: dict[str, Any]) -> Driver:
    """Fit the costs of a turn and of a batch to the driver's CPU seconds per second, none below nothing.

    A cost per process is not told apart from these with the few processes that one machine holds.
    """
    runs = traces["driver"]["runs"]
    used = np.array([run["driver_s_per_batch"] * run["batches_per_s"] for run in runs])
    turns = (1 - used) / Driver().wait_s
    rates = np.array([run["batches_per_s"] for run in runs])
    (tick_s, batch_s), _ = nnls(np.stack([turns, rates], axis=1), used)
    return Driver(tick_s=float(tick_s), batch_s=float(batch_s))


def first_run(traces: dict[str, Any]) -> dict[str, Any]:
    """Return the run of one decoder and one model."""
    (first,) = (one for one in traces["cores"]["runs"] if (one["decoders"], one["models"]) == (1, 1))
    return first


def cores_had(traces: dict[str, Any]) -> float:
    """Return the cores that the run of one decoder and one model had: its CPU seconds by its seconds.

    Two on an idle machine, where decoder and model are always at work; less where others are at work, too.
    """
    run = first_run(traces)
    driver_s = (run["driver_s_per_batch"] + run["head_s_per_batch"]) * run["num_batches"]
    return (sum(run["decode_cpu_s"]) + sum(run["answer_cpu_s"]) + driver_s) / run["working_s"]


def of_cores(traces: dict[str, Any], decoders: int, models: int, cores: float) -> Scenario:
    """Describe a run on some cores, with batches as in the run of one decoder and one model."""
    section, first = traces["cores"], first_run(traces)
    return Scenario(
        models_per_node=models,
        decoders_per_node=decoders,
        num_chunks=section["files"] // BATCH_SIZE,
        decode_s=samples(first["decode_cpu_s"], 1 / BATCH_SIZE),
        answer_s=samples(first["answer_cpu_s"]),
        driver=fitted_driver(traces),
        cores=cores,
    )


def of_driver(traces: dict[str, Any], run: dict[str, Any]) -> Scenario:
    """Describe a run of ``trace_caption driver``, whose stages sleep."""
    sleep_s = traces["driver"]["sleep_s"]
    return Scenario(
        models_per_node=run["models"],
        decoders_per_node=run["decoders"],
        num_chunks=max(200, round(15 * run["batches_per_s"])),
        decode_s=constant(sleep_s / 8 / BATCH_SIZE),
        answer_s=constant(sleep_s),
        driver=fitted_driver(traces),
        max_waiting=math.inf,
    )


# Validation


def validate(traces: dict[str, Any]) -> Iterator[Comparison]:
    """Compare every measured run with the model."""
    for run in traces["driver"]["runs"]:
        rates = [_steady(of_driver(traces, run), seed) / BATCH_SIZE for seed in SEEDS]
        name = f"{run['decoders']} decoders, {run['models']} models that sleep"
        yield _compare(name, "batches/s", run["batches_per_s"], rates)
    cores = cores_had(traces)
    for run in traces["cores"]["runs"]:
        fitted = " (fitted)" if run is first_run(traces) else ""
        name = f"{run['decoders']} decoders, {run['models']} models, {cores:.2f} cores{fitted}"
        rates = _rates(of_cores(traces, run["decoders"], run["models"], cores))
        yield _compare(name, "clips/s", run["clips_per_s"], rates)
    if "kills" in traces:
        yield from _validate_kills(traces["kills"])


def _rates(scenario: Scenario) -> list[float]:
    """Return the rates from the first answer to the last, as the benchmark counts them."""
    outcomes = [CaptionSimulation(scenario, seed).run() for seed in SEEDS]
    return [one.clips / (one.finished_s[-1] - one.first_s) for one in outcomes]


def _steady(scenario: Scenario, seed: int) -> float:
    """Return the rate between the second batch of each process and the last but two."""
    outcome = CaptionSimulation(scenario, seed).run()
    edge = 2 * scenario.models_per_node
    return outcome.rate(outcome.finished_s[edge], outcome.finished_s[-edge])


def _compare(run: str, what: str, measured: float, predicted: list[float]) -> Comparison:
    mean, error = mean_and_error(predicted)
    return Comparison(run=run, what=what, measured=measured, predicted=mean, error=error)


@dataclass(frozen=True, kw_only=True)
class KillCosts:
    """Times of the kill benchmark's cluster, in seconds.

    Attributes:
        driver_s: From the start of a driver until its processes are started.
        model_s: Of a model's start.
        process_away_s, node_away_s: From a kill until the process starts again.
        end_s: From the last row until the driver has ended.
    """

    driver_s: float
    model_s: float
    process_away_s: float
    node_away_s: float
    end_s: float
    decode_s: list[float]
    row_s: list[float]
    """Seconds that a model works on one row."""

    def slower(self, factor: float) -> "KillCosts":
        """Return the times on a machine that is busier with other things."""
        return KillCosts(
            **{
                name: [factor * one for one in value] if isinstance(value, list) else factor * value
                for name, value in vars(self).items()
            }
        )


def kill_costs(section: dict[str, Any]) -> KillCosts:
    """Take the times from the unbroken job and from the calibration; the killed jobs are not looked at."""
    unbroken, calibration = section["runs"]["unbroken"], section["runs"]["calibration"]
    spans = _spans(unbroken)
    away = {kind: _away(calibration, kind) for kind in ("model", "node")}
    return KillCosts(
        driver_s=spans["model_start"][0][0],
        model_s=float(np.median([stop - start for start, stop, *_ in spans["model_start"]])),
        process_away_s=float(np.median(away["model"])) if away["model"] else 0.0,
        node_away_s=float(np.median(away["node"])) if away["node"] else 0.0,
        end_s=unbroken["seconds"] - max(stop for _, stop, _, _ in spans["answer"]),
        decode_s=[(stop - start) / num_clips for start, stop, _, num_clips in spans["decode"]],
        row_s=[(stop - start) / rows for start, stop, _, rows in spans["answer"]],
    )


def _spans(run: dict[str, Any]) -> dict[str, list[tuple[float, float, float, int]]]:
    found = dict[str, list[tuple[float, float, float, int]]]()
    for stage, *span in run["spans"]:
        found.setdefault(stage, []).append(tuple(span))
    return {stage: sorted(spans) for stage, spans in found.items()}


def _away(run: dict[str, Any], kind: str) -> list[float]:
    """Return the times from the kills of a kind until the next start of a model, at most a minute."""
    starts = [start for start, *_ in _spans(run)["model_start"]]
    kills = [at for at, line in run["events"] if line.startswith(f"{kind} killed")]
    waits = [min((start - at for start in starts if start > at), default=math.inf) for at in kills]
    return [wait for wait in waits if wait < 60]


def slow_down(section: dict[str, Any]) -> float:
    """Return how much longer than in the unbroken job the same work took in the killed ones.

    Seconds by CPU seconds of answered batches: 1 on two machines that are equally busy with other things.
    """
    shares = list[float]()
    for name in ("unbroken", "killed"):
        spans = _spans(section["runs"][name])["answer"]
        shares.append(sum(stop - start for start, stop, *_ in spans) / sum(cpu for _, _, cpu, _ in spans))
    return shares[1] / shares[0]


def _validate_kills(section: dict[str, Any]) -> Iterator[Comparison]:
    costs, run = kill_costs(section), section["runs"]["killed"]
    whole = [_killed_jobs(section, costs, run["seed"], 0, chance)["seconds"] for chance in SEEDS]
    alone = section["rows"] / section["runs"]["unbroken"]["seconds"]
    yield _compare(
        "kill benchmark, unbroken (fitted)", "rows/s", alone, [section["rows"] / one for one in whole]
    )
    slower = costs.slower(slow_down(section))
    found = [_killed_jobs(section, slower, run["seed"], run["num_kills"], chance) for chance in range(20)]
    measured = section["rows"] * run["rounds"] / run["seconds"]
    name = f"kill benchmark, {run['num_kills']} kills"
    yield _compare(name, "rows/s", measured, [one["rows"] / one["seconds"] for one in found])
    lost = run["begun"] - section["rows"] * run["rounds"]
    yield _compare(name, "rows lost and begun again", lost, [one["lost"] for one in found])


def _killed_jobs(
    section: dict[str, Any], costs: KillCosts, seed: int, num_kills: int, chance: int
) -> dict[str, float]:
    """Simulate jobs with the benchmark's own kills until so many have hit."""
    kills, total, hits = Kill.draw(KINDS, seed=seed), {"seconds": 0.0, "lost": 0.0, "rows": 0.0}, 0
    rounds = 0
    while not rounds or hits < num_kills:
        simulation = CaptionSimulation(_kill_scenario(section, costs), 1_000 * chance + rounds)
        schedule = _Schedule(simulation, costs, kills, num_kills - hits)
        outcome = schedule.run()
        hits, rounds = hits + schedule.hits, rounds + 1
        total["seconds"] += outcome.seconds + costs.end_s
        total["lost"] += outcome.lost_s / float(np.mean(costs.row_s))
        total["rows"] += outcome.clips
    return total


KINDS = ["decoder", "model", "model", "node", "node", "driver"]
"""As ``kill_caption`` has them."""


def _kill_scenario(section: dict[str, Any], costs: KillCosts) -> Scenario:
    """Describe the benchmark's job: a chunk of two files is one task of a model, with its rows at the end."""
    size, rows = SECTIONS[0].batch_size, section["rows_of_files"]
    clips = tuple(sum(rows[start : start + size]) for start in range(0, len(rows), size))
    return Scenario(
        num_chunks=len(clips),
        batch_size=max(clips),
        clips=clips,
        decode_s=samples(costs.decode_s),
        answer_s=samples(costs.row_s, max(clips)),
        driver=Driver(start_s=costs.driver_s),
        model_start_s=costs.model_s,
        max_waiting=math.inf,
        flush_s=0.0,
    )


class _Schedule:
    """Kills at the benchmark's own moments (``tests.kills``), on one simulated job."""

    def __init__(
        self, simulation: CaptionSimulation, costs: KillCosts, kills: Iterator[Kill], most: int
    ) -> None:
        self._simulation, self._costs, self._kills, self._most = simulation, costs, kills, most
        self.hits = 0

    def run(self) -> Any:
        """Run the job to its end."""
        simulation = self._simulation
        simulation.start(self._costs.driver_s)
        simulation.env.process(self._kill())
        return simulation.run()

    def _kill(self) -> Generator[simpy.Event, Any, None]:
        simulation = self._simulation
        while self.hits < self._most:
            kill = next(self._kills)
            stage, before = (
                kill.kind if kill.kind in ("decoder", "model") else "decoder",
                simulation.outcome.clips,
            )
            yield from self._until(
                lambda stage=stage, before=before: self._there(stage) or self._rows() > before
            )
            yield from self._until(lambda kill=kill, before=before: self._rows() >= before + kill.after_rows)
            yield simulation.env.timeout(kill.after_s)
            if kill.kind in ("decoder", "model"):
                yield from self._until(lambda kill=kill: self._there(kill.kind))
            self.hits += 1
            self._execute(kill.kind)

    def _rows(self) -> int:
        return self._simulation.outcome.clips

    def _there(self, kind: str) -> list[Process]:
        return [one for one in self._simulation.processes(kind) if one.is_there]

    def _until(self, found: Any) -> Generator[simpy.Event, Any, None]:
        while not found():
            yield self._simulation.env.timeout(POLL_S)

    def _execute(self, kind: str) -> None:
        simulation, costs = self._simulation, self._costs
        if kind == "driver":
            simulation.kill_driver(costs.driver_s)
        elif kind == "node":  # one of two, and each process is on either
            for process in simulation.processes():
                if simulation.random.random() < 0.5:
                    simulation.nodes[0].life += process.kind == "decoder"
                    simulation.kill_process(process, costs.node_away_s)
        else:
            simulation.kill_process(self._there(kind)[0], costs.process_away_s)


# 8 to 256 nodes

GPUS_PER_NODE, CLIPS_PER_GPU = 8, 60.0
"""The goal for an H200; no GPU was measured."""
SECONDS_PER_CLIP, DECODE_SPEED = 10.0, 775.0
NODES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FILL_S, MEASURED_S = 2.0, 60.0
"""Simulated seconds: for each node, in which decoded batches pile up before the models, and measured ones."""
KEYS_PER_S = 30_000.0
NODE_MTBF_S = 6_300 * 3_600.0
"""2,048 nodes of eight H100 had 419 unexpected interruptions in 54 days (Llama 3, 2024, section 3.3.4)."""
BUCKET = Storage(median_s=0.04, sigma=0.5, error_rate=1e-4, slow_share=1e-3, slow_factor=20)
"""Assumed, as no real S3 can be reached from the machine of the measurements."""


def of_cluster(traces: dict[str, Any], num_nodes: int, *, batch_size: int = BATCH_SIZE) -> Scenario:
    """Describe nodes of eight GPUs; the answers' spread is that of measured batches."""
    answer_s = np.array(first_run(traces)["answer_cpu_s"])
    spread = answer_s / answer_s.mean()
    cpu_s = SECONDS_PER_CLIP / DECODE_SPEED + traces["storage"]["get_cpu_s"]
    decoders = math.ceil(GPUS_PER_NODE * CLIPS_PER_GPU * (cpu_s + 1.25 * BUCKET.median_s) * 1.1)
    return Scenario(
        num_nodes=num_nodes,
        models_per_node=GPUS_PER_NODE,
        decoders_per_node=decoders,
        max_s=(FILL_S * num_nodes + MEASURED_S) * max(1, batch_size // 64),
        batch_size=batch_size,
        clips=batch_size,
        decode_s=constant(cpu_s),
        answer_s=samples(spread, batch_size / CLIPS_PER_GPU),
        storage=BUCKET,
        driver=replace(fitted_driver(traces), start_s=120.0),
        failures=Failures(node_mtbf_s=NODE_MTBF_S),
        slow_nodes=0.02,
        slow_factor=1.3,
        keys_per_s=KEYS_PER_S,
    )


def variants(traces: dict[str, Any]) -> dict[str, Any]:
    """Return functions from a number of nodes to a scenario, by name."""

    def one_task(nodes: int) -> Scenario:
        usual = of_cluster(traces, nodes)
        return replace(usual, driver=replace(usual.driver, batch_s=usual.driver.batch_s / 2))

    return {
        "as it is: batches of 32": lambda nodes: of_cluster(traces, nodes),
        "batches of 256": lambda nodes: of_cluster(traces, nodes, batch_size=256),
        "decoded by the model's process: one task a batch": one_task,
    }


def scale(traces: dict[str, Any], path: Path) -> None:
    """Simulate all variants and sizes, and what failures cost.

    Variants that the file has for the same driver are left as they are: delete it to begin again.
    """
    found: dict[str, Any] = {"driver": vars(fitted_driver(traces)), "nodes": {}, "failures": []}
    if path.exists() and (before := json.loads(path.read_text()))["driver"] == found["driver"]:
        found["nodes"] = before["nodes"]
    for name, make in variants(traces).items():
        if name in found["nodes"]:
            continue
        found["nodes"][name] = []
        for nodes in NODES:
            scenario = make(nodes)
            runs = [CaptionSimulation(scenario, seed).run() for seed in range(3)]
            start = scenario.max_s * (1 - MEASURED_S / (FILL_S * nodes + MEASURED_S)) + 10
            rate, error = mean_and_error([one.rate(start) for one in runs])
            ideal = nodes * GPUS_PER_NODE * CLIPS_PER_GPU
            line = {"nodes": nodes, "clips_per_s": rate, "error": error, "efficiency": rate / ideal}
            line["driver"] = mean_and_error([one.driver_s / one.seconds for one in runs])[0]
            found["nodes"][name].append(line)
            print(f"{name}, {nodes} nodes: {rate:.0f} +- {error:.0f} clips/s, {rate / ideal:.0%}, "
                  f"driver at work {line['driver']:.0%}", flush=True)  # fmt: skip
        path.write_text(json.dumps(found, indent=1) + "\n")
    for mtbf_s in (900.0, 300.0, 100.0):
        found["failures"].append(_failures(traces, mtbf_s))
        print(found["failures"][-1], flush=True)
        path.write_text(json.dumps(found, indent=1) + "\n")


def _failures(traces: dict[str, Any], mtbf_s: float) -> dict[str, float]:
    """Simulate four nodes of two GPUs for 20 minutes: lost work per death of a node."""
    scenario = replace(
        of_cluster(traces, 4),
        models_per_node=2,
        decoders_per_node=9,
        max_s=1_200.0,
        failures=Failures(node_mtbf_s=mtbf_s, replace_s=60.0),
    )
    runs = [CaptionSimulation(scenario, seed).run() for seed in range(3)]
    deaths = [one.deaths / (2 + 9) for one in runs]
    lost, error = mean_and_error([one.lost_s / max(1, n) for one, n in zip(runs, deaths, strict=True)])
    rate, _ = mean_and_error([one.rate(60) for one in runs])
    return {
        "mtbf_s": mtbf_s,
        "deaths": float(np.mean(deaths)),
        "lost_s_per_death": lost,
        "error": error,
        "clips_per_s": rate,
        "share_up": mtbf_s / (mtbf_s + 60),
    }


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=("validate", "scale"))
    parser.add_argument("--traces", type=Path, default=TRACES)
    args = parser.parse_args()
    traces = json.loads(args.traces.read_text())
    if args.part == "scale":
        scale(traces, SCALE)
        return
    print(f"driver: {fitted_driver(traces)}")
    print("| run | number | measured | predicted | ratio |\n|---|---|---|---|---|")
    for one in validate(traces):
        predicted = f"{one.predicted:.3g} +- {one.error:.2g}"
        print(f"| {one.run} | {one.what} | {one.measured:.3g} | {predicted} | {one.ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
