"""What a training worker is put together from: engine, checkpoint, batches, settings. Knows no Ray."""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import torch

from mats_ray.config import RunConfig
from mats_ray.config.run import join
from mats_ray.config.toy import ToyConfig
from mats_ray.data.collate import Collator
from mats_ray.data.embedded import EmbeddedTriplets
from mats_ray.data.triplets import EMBEDDING, embedding_matrix
from mats_ray.errors import TrainingError
from mats_ray.models.directory import ModelSettings
from mats_ray.models.flops import TrainingFlops, llm_shape, measured_peak
from mats_ray.models.llm import checkpoint_hash
from mats_ray.models.mats import MATS, TrainBatch
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.train.checkpoints import CheckpointStore, Stored
from mats_ray.train.engine import EngineState, TorchEngine, TrainEngine
from mats_ray.train.loop import course, run_hash
from mats_ray.train.state import UNKNOWN_INPUTS, RunInputs, RunState, check_fits
from mats_ray.train.throughput import Meter
from mats_ray.version import __version__

logger = logging.getLogger(__name__)


def run_dir(config: RunConfig) -> str:
    """Return where a run's checkpoints and metrics lie."""
    return join(config.runs_dir, config.name)


def open_store(config: RunConfig) -> CheckpointStore:
    """Open the run's checkpoints."""
    return CheckpointStore(join(run_dir(config), "checkpoints"), keep=config.train.checkpoint.keep)


def build_engine(config: RunConfig, model: MATS, device: str) -> TrainEngine:
    """Put the engine the configuration names around a model."""
    if config.train.engine.type == "torch":
        return TorchEngine(model, config.train.optim, device=device)
    from mats_ray.train.on_deepspeed import DeepSpeedEngine  # a slow import, for workers only

    return DeepSpeedEngine(model, config.train, device=device)


def read_newest(store: CheckpointStore) -> tuple[Stored, EngineState, RunState] | None:
    """Read the newest checkpoint that is whole; None if the run has none yet.

    Raises:
        TrainingError: There are some, and none is.
    """
    committed = store.committed()
    for stored in reversed(committed):
        try:
            return stored, *read(store, stored)
        except TrainingError as error:
            if stored == committed[0]:
                raise
            logger.warning("%s; going back to the one before", error)
    return None


def read(store: CheckpointStore, stored: Stored) -> tuple[EngineState, RunState]:
    """Read one checkpoint.

    Raises:
        TrainingError: It is not what was committed.
    """
    with tempfile.TemporaryDirectory(prefix="mats-resume-") as scratch:
        return store.load(stored, Path(scratch))


def take_up(
    engine: TrainEngine,
    state: EngineState,
    run: RunState,
    config: RunConfig,
    inputs: RunInputs = UNKNOWN_INPUTS,
) -> int:
    """Load a checkpoint into an engine and return the number of updates done.

    Raises:
        TrainingError: It belongs to another run, other inputs or another architecture.
    """
    check_same_run(run, config, inputs)
    check_fits(state, engine.named, where=f"the checkpoint of step {run.step} of the run {config.name!r}")
    engine.load_state(state)
    return run.step


def run_inputs(data: EmbeddedTriplets, *, llm_path: str | None = None) -> RunInputs:
    """Identify what a run is trained from.

    Args:
        data: Embedded triplets, their rows counted by source.
        llm_path: Of the base model, where it can be read.
    """
    known = {
        "data.embedded": f"{data.fingerprint} ({data.num_rows} rows)",
        "model.clap": str(data.identity),
    }
    if llm_path is not None:
        known["model.llm"] = checkpoint_hash(llm_path)
    return RunInputs(known, data.sources)


def check_same_run(run: RunState, config: RunConfig, inputs: RunInputs = UNKNOWN_INPUTS) -> None:
    """Refuse the checkpoint of another course, or of other inputs as far as they are known.

    Raises:
        TrainingError: Names every key or input that differs, with its value then and now.
    """
    where = f"the run {config.name!r} in {config.runs_dir} (checkpoint at step {run.step})"
    remedy = f"choose another name, e.g. --set name={config.name}-2"
    now = course(config)
    then = {**course(RunConfig(toy=ToyConfig())), **run.config}  # a newer key had its default
    if changed := differences(then, now) if run.config else "":
        raise TrainingError(f"{where} was started with another configuration: {changed}; {remedy}")
    if not run.config and run.run_hash != run_hash(config):
        raise TrainingError(f"{where} was started with another configuration; {remedy}")
    known = {key: old for key, old in run.inputs.fingerprints.items() if key in inputs.fingerprints}
    if changed := differences(known, {key: inputs.fingerprints[key] for key in known}):
        raise TrainingError(
            f"{where} was started from other inputs: {changed}; bring the old ones back, or {remedy}"
        )


def differences(then: Mapping[str, object], now: Mapping[str, object]) -> str:
    """Say of every key that differs what it was and what it is."""
    return ", ".join(
        f"{key} was {then.get(key, 'not set')}, is {now.get(key, 'not set')}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    )


def to_batches(rows: Iterable[pa.Table], prompts: PromptTokenizer, config: RunConfig) -> Iterator[TrainBatch]:
    """Make each table a micro-batch."""
    collate = Collator(prompts, config.model.llm.max_text_tokens)
    for table in rows:
        instructions, answers, ids = (
            table.column(name).to_pylist() for name in ("instruction", "answer", "id")
        )
        yield collate(embedding_matrix(table.column(EMBEDDING)), instructions, answers, ids)


def meter_of(config: RunConfig, model: MATS, *, device: str, num_workers: int) -> Meter:
    """Measure what the hardware can do at best, in the precision of the run."""
    dtype = torch.bfloat16 if config.train.engine.precision == "bf16" else torch.float32
    lora = config.model.llm.lora if config.model.llm.train == "lora" else None
    shape = llm_shape(model.llm.config)
    flops = TrainingFlops(shape, config.model.mapper, config.model.clap.dim, lora)
    return Meter(flops, measured_peak(device, dtype=dtype) * num_workers)


def model_settings(config: RunConfig, data: EmbeddedTriplets) -> ModelSettings:
    """What the model directory will say of itself."""
    clap = config.model.clap.model_copy(update={"ref": config.clap_ref})
    llm = config.model.llm.model_copy(update={"path": config.llm_path})
    return ModelSettings(
        name=config.name,
        version=__version__,
        model=config.model.model_copy(update={"clap": clap, "llm": llm}),
        santa=config.santa,
        generation=config.generation,
        clap=data.identity,
    )
