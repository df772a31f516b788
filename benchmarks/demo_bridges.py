"""Bridges beside Santa on demos that are there: a bridge acts when a model answers, so none is trained anew.

    python benchmarks/demo_bridges.py out/demo [out/demo_seeds/1 ...]

For each demo folder (``mats demo``, any seed) every bridge is built, by the code of `mats memory`, of the
run's texts and of clips of training scenes that no model has heard, and the test sets are captioned and
questioned. Prints captions that name all sounds, questions answered right, and the gap, as means over the
folders; with one folder the error is over its clips.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mats_ray.config import RunConfig, load_config
from mats_ray.config.bridge import SpectralConfig
from mats_ray.data.bridge_state import build_state
from mats_ray.evaluate.gap import measure_gap
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.models.bridges.bridge import Bridge, NoBridge
from mats_ray.models.bridges.mean_shift import MeanShift
from mats_ray.models.bridges.projection import Projection
from mats_ray.models.bridges.santa import Santa
from mats_ray.models.bridges.spectral import Spectral
from mats_ray.models.santa import SantaMemory
from mats_ray.toy.demo.results import MEASURES, SystemResult, record_answers
from mats_ray.toy.demo.run import AUDIO_FOLDERS
from mats_ray.toy.demo.systems import answer_samples, encode_clips, encode_descriptions
from mats_ray.toy.demo.testset import samples_of, write_test_set
from mats_ray.toy.world import SUPERVISED_STREAM

PAIRS = (20, 200, 1000)
"""Numbers of clips with texts; that of the mean shift's clips is the second."""
AXES = (10, 30, 100)
TEMPERATURES = (0.03, 0.07, 0.2)
SETS = tuple(AUDIO_FOLDERS)


def config_of(demo: Path) -> RunConfig:
    """The configuration of a demo with the default settings, and its seed."""
    seed = json.loads((demo / "metrics.json").read_text())["seed"]
    return load_config("configs/toy.yaml", [f"seed={seed}", f"output_dir={demo}"])


def write_pairs(config: RunConfig, folder: Path, count: int) -> Path:
    """Render clips of training scenes, each with the text that tells of it."""
    changed = config.replace(toy={"num_test_clips": count})
    clips = write_test_set(changed, folder / f"clips_{count}", SUPERVISED_STREAM)
    file = folder / f"pairs_{count}.jsonl"
    lines = (json.dumps({"path": str(clip.path), "text": clip.description}) + "\n" for clip in clips)
    file.write_text("".join(lines), "utf-8")
    return file


def built(config: RunConfig, bridge: str, path: Path, **memory: Any) -> Path:
    """Build a bridge's state."""
    state = config.replace(model={"bridge": bridge}, memory={"path": str(path), **memory})
    print(f"    {path.name}: {build_state(state)}")
    return path


def bridges_of(config: RunConfig, own: Santa, work: Path) -> dict[str, Bridge]:
    """Every bridge, by its name in the table."""
    work.mkdir(parents=True, exist_ok=True)
    pairs = {count: write_pairs(config, work, count) for count in PAIRS}
    shift = built(config, "mean_shift", work / "mean_shift", audio=str(pairs[PAIRS[1]]))
    support = SantaMemory.load(built(config, "projection", work / "projection"))
    bridges: dict[str, Bridge] = {
        "Santa (the method)": own,
        "none": NoBridge(),
        f"mean shift, {PAIRS[1]} clips without texts": MeanShift.load(shift),
    }
    for tau in TEMPERATURES:
        numbers = config.projection.model_copy(update={"temperature": tau})
        bridges[f"projection, tau {tau:g}"] = Projection.onto(support, numbers)
    bridges["projection, tau 0.07, Santa's noised texts"] = Projection.onto(own.memory, config.projection)
    for count, file in pairs.items():
        state = built(config, "spectral", work / f"spectral_{count}", pairs=str(file))
        for axes in AXES if count == PAIRS[1] else AXES[-1:]:
            bridge = Spectral.load(state, SpectralConfig(num_axes=axes))
            bridges[f"spectral, {count} pairs, {bridge.num_axes} axes"] = bridge
    return bridges


def measure(demo: Path) -> dict[str, dict[str, Any]]:
    """Return results and gap of every bridge, by test set."""
    config, work = config_of(demo), demo / "bridges"
    encoder, answerer = (one.from_pretrained(config.model_dir) for one in (AudioEncoder, Answerer))
    assert isinstance(answerer.bridge, Santa)
    found: dict[str, dict[str, Any]] = {}
    bridges = bridges_of(config, answerer.bridge, work)
    for name, (folder, stream) in AUDIO_FOLDERS.items():
        clips = write_test_set(config, demo / folder, stream)
        audio_NC, text_NC = encode_clips(encoder, clips), encode_descriptions(encoder.clap, clips)
        for number, (label, bridge) in enumerate(bridges.items()):
            moved_NC = replace(answerer, bridge=bridge).move(audio_NC).numpy()
            texts = answer_samples(answerer, moved_NC, clips, samples_of(clips), name=label)
            result = record_answers(clips, texts, work / str(number) / name, system=label)
            gap = measure_gap(audio_NC, text_NC, moved_NC)
            found.setdefault(label, {})[name] = (result, gap)
    return found


def table(runs: list[Mapping[str, Mapping[str, Any]]]) -> Iterable[str]:
    """Yield the lines of a Markdown table: means over the folders."""
    heads = [f"{name}: {what}" for name in SETS for what in ("captions", "questions")]
    yield f"| bridge | {' | '.join(heads)} | cosine to its text | centroids apart |"
    yield "|---|" + "---|" * (len(heads) + 2)
    for label in runs[0]:
        results = [run[label] for run in runs]
        cells = [shares([one[name][0] for one in results], measure) for name in SETS for measure in MEASURES]
        keys = ("matching_after_santa", "centroids_after_santa")
        cells += [f"{np.mean([one[SETS[0]][1][key] for one in results]):.3f}" for key in keys]
        yield f"| {label} | {' | '.join(cells)} |"


def shares(results: list[SystemResult], measure: str) -> str:
    """A share and its standard error: over folders, or over the clips of one."""
    values = [one.value(measure) for one in results]
    error = (
        float(np.std(values, ddof=1)) / len(values) ** 0.5
        if len(values) > 1
        else results[0].tree["measures"][measure]["error"]
    )
    return f"{np.mean(values):.3f} ± {error:.3f}"


def differences(run: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Yield each bridge less Santa on the first test set of one folder, paired by clip."""
    santa = next(iter(run.values()))[SETS[0]][0]
    for label, of in run.items():
        one = of[SETS[0]][0].minus(santa, MEASURES[0])
        yield f"{label} less Santa: captions {one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demos", nargs="+", type=Path, metavar="DEMO", help="folders of finished demos")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    runs = []
    for demo in args.demos:
        print(f"{demo}:")
        runs.append(measure(demo))
        print("\n".join(f"    {line}" for line in differences(runs[-1])))
    print("\n".join(table(runs)))


if __name__ == "__main__":
    main()
