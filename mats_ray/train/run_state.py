"""Identity and progress of a run: the settings and inputs its losses follow from.

A checkpoint of another run is refused. Workers, logging and checkpointing change no loss and are not part of
the identity; neither are the paths of inputs and the name of the prompt format, whose content has a
fingerprint.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mats_ray.config import RunConfig
from mats_ray.config.model import AUTO
from mats_ray.data.embedded import EmbeddedTriplets
from mats_ray.errors import TrainingError
from mats_ray.models.llm import checkpoint_hash
from mats_ray.models.prompt_format import VICUNA
from mats_ray.version import __version__

STATE = "state.json"
INPUT_PATHS = ("model.clap.ref", "model.llm.path", "data.triplets", "data.embedded", "train.init_from")
NOISE_VARIANCE = "model.noise.variance"
NUM_STEPS = "train.num_steps"
"""The one identifying key that may change: it can be raised, and lowered to what is not yet reached."""
WITHOUT_EFFECT = {
    "train": (
        "log_every",
        "checkpoint",
        "max_failures",
        "micro_batch_size",
        "validation",
        "stall_seconds",
        "trackers",
    ),
    "data": ("prepare", "group_by_length"),
    "embed": ("batch_size", "concurrency", "cpus_per_actor", "gpus_per_actor"),
}
"""Keys that change no loss, by section."""


@dataclass(frozen=True, slots=True)
class RunInputs:
    """Inputs of training, whatever their paths."""

    fingerprints: Mapping[str, str] = field(default_factory=dict[str, str])
    """Fingerprints of embedded triplets, CLAP, base model, prompt and initial weights, by key."""
    rows: Mapping[str, int] = field(default_factory=dict[str, int])
    """Number of rows trained on, by source."""


UNKNOWN_INPUTS = RunInputs()
FRESH_WEIGHTS = "not set"
PROMPT_FORMAT = "model.llm.prompt_format"
OLDER_FINGERPRINTS = {"train.init_from": FRESH_WEIGHTS, PROMPT_FORMAT: str(VICUNA)}
"""Inputs of runs of versions that knew no other."""


@dataclass(frozen=True, slots=True)
class RunState:
    """Progress and identity of a run: the content of ``state.json``."""

    step: int
    """Number of updates done."""
    samples: int
    """Number of samples of the stream consumed: step x global batch size."""
    run_hash: str
    """Hash of the identifying settings."""
    version: str
    validation_loss: float | None = None
    """Loss of these weights on the validation data, if there is any: the best checkpoint is kept."""
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Identifying settings by key, without paths; empty where only the hash is known."""
    inputs: RunInputs = UNKNOWN_INPUTS
    num_steps_changes: tuple[Mapping[str, int], ...] = ()
    """Changes of ``train.num_steps``, oldest first: ``was``, ``now``, and the ``step`` it happened after."""


def parse_run_state(tree: dict[str, Any]) -> RunState:
    """Build the state from the content of ``state.json``.

    Raises:
        TrainingError: It was written by a version with other fields.
    """
    try:
        changes = tuple(tree.get("num_steps_changes", ()))
        return RunState(
            **{**tree, "inputs": RunInputs(**tree.get("inputs", {})), "num_steps_changes": changes}
        )
    except TypeError as error:
        raise TrainingError(f"{STATE} of mats_ray {tree.get('version')} cannot be read: {error}") from error


def run_inputs(
    data: EmbeddedTriplets,
    *,
    llm_path: str | None = None,
    init_from: str | None = None,
    prompt: str | None = None,
) -> RunInputs:
    """Identify what a run is trained from.

    Args:
        data: Embedded triplets, their rows counted by source.
        llm_path: Path of the base model, where it can be read.
        init_from: Hash of the weights the run starts from, if not from fresh ones.
        prompt: Name and hash of the prompt format, where the tokenizer can be read.
    """
    known = {
        "data.embedded": f"{data.fingerprint} ({data.num_rows} rows)",
        "model.clap": str(data.identity),
        "train.init_from": init_from or FRESH_WEIGHTS,
    }
    if llm_path is not None:
        known["model.llm"] = checkpoint_hash(llm_path)
    if prompt is not None:
        known[PROMPT_FORMAT] = prompt
    return RunInputs(known, data.sources)


def run_hash(config: RunConfig) -> str:
    """Hash the identifying settings, paths included."""
    tree = _identifying_tree(config)
    if config.data.splits == type(config.data)().splits:  # runs of versions without this key go on
        tree["data"].pop("splits")
    if config.train.init_from is None:
        tree["train"].pop("init_from")
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def identifying_settings(config: RunConfig) -> dict[str, Any]:
    """List the identifying settings by key, ``train.num_steps``, without the paths of inputs."""
    flat = _flat(_identifying_tree(config))
    return {key: value for key, value in flat.items() if key not in INPUT_PATHS}


def check_same_run(run: RunState, config: RunConfig, inputs: RunInputs = UNKNOWN_INPUTS) -> None:
    """Refuse the checkpoint of other settings, or of other inputs as far as they are known.

    ``train.num_steps`` may be another number, if it is above the steps done.

    Raises:
        TrainingError: Names every key or input that differs, with its value then and now.
    """
    where = f"the run {config.name!r} in {config.runs_dir} (checkpoint at step {run.step})"
    remedy = f"give the other run a folder of its own, e.g. {config.own_folder_flags}"
    now = identifying_settings(config)
    defaults = identifying_settings(RunConfig.model_construct())  # values of keys newer than the checkpoint
    then = {**defaults, **run.config, NUM_STEPS: config.train.num_steps}
    if now[NOISE_VARIANCE] == AUTO:  # the run has the number that it was
        now[NOISE_VARIANCE] = then[NOISE_VARIANCE]
    if changed := differences(then, now) if run.config else "":
        raise TrainingError(f"{where} was started with another configuration: {changed}; {remedy}")
    if not run.config and run.run_hash != run_hash(config):
        raise TrainingError(f"{where} was started with another configuration; {remedy}")
    if num_steps_changes(run, config) != run.num_steps_changes and config.train.num_steps <= run.step:
        raise TrainingError(
            f"{where} cannot be shortened: {NUM_STEPS} was {run.config[NUM_STEPS]}, is "
            f"{config.train.num_steps}; set it above the {run.step} steps done, or {remedy}"
        )
    recorded = {**OLDER_FINGERPRINTS, **run.inputs.fingerprints}
    known = {key: old for key, old in recorded.items() if key in inputs.fingerprints}
    if changed := differences(known, {key: inputs.fingerprints[key] for key in known}):
        raise TrainingError(
            f"{where} was started from other inputs: {changed}; bring the old ones back, or {remedy}"
        )


def fresh_state(inputs: RunInputs = UNKNOWN_INPUTS) -> RunState:
    """Return the state of a run before its first step."""
    return RunState(0, 0, "", __version__, inputs=inputs)


def state_after(
    start: RunState, config: RunConfig, step: int, validation_loss: float | None = None
) -> RunState:
    """Return the state of a run after a step, for its checkpoint; ``start`` is the one it resumed from."""
    return RunState(
        step=step,
        samples=step * config.train.global_batch_size,
        run_hash=run_hash(config),
        version=__version__,
        validation_loss=validation_loss,
        config=identifying_settings(config),
        inputs=start.inputs,
        num_steps_changes=num_steps_changes(start, config),
    )


def num_steps_changes(run: RunState, config: RunConfig) -> tuple[Mapping[str, int], ...]:
    """List all changes of ``train.num_steps`` in a run, the one made now last."""
    was, now = run.config.get(NUM_STEPS, config.train.num_steps), config.train.num_steps
    change = {"step": run.step, "was": was, "now": now}
    return (*run.num_steps_changes, *([change] if was != now else []))


def differences(then: Mapping[str, object], now: Mapping[str, object]) -> str:
    """List the keys that differ, each with its value then and now."""
    return ", ".join(
        f"{key} was {then.get(key, 'not set')}, is {now.get(key, 'not set')}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    )


def _identifying_tree(config: RunConfig) -> dict[str, Any]:
    tree = config.model_dump(mode="json", include={"seed", "model", "train", "data"})
    tree["model"].pop("bridge")  # it plays no part in training
    tree["train"]["precision"] = tree["train"].pop("engine")["precision"]
    tree["model"]["llm"].pop("prompt_format")
    sections = {"train": tree["train"], "data": tree["data"], "embed": tree["data"]["embed"]}
    for name, keys in WITHOUT_EFFECT.items():
        for key in keys:
            sections[name].pop(key)
    return tree


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
