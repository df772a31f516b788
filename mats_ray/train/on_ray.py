"""Ray Train: workers around the training loop, checkpoints to storage, metrics back to the driver."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer

from mats_ray import __version__
from mats_ray.config import RunConfig
from mats_ray.config.run import join
from mats_ray.data.collate import Collator
from mats_ray.data.embedded import EmbeddedTriplets, inspect
from mats_ray.data.memory import check_memory
from mats_ray.data.on_ray import StreamPlace, training_rows
from mats_ray.data.storage import exists
from mats_ray.data.triplets import EMBEDDING, embedding_matrix
from mats_ray.errors import ConfigError, DataError, MATSError, TrainingError
from mats_ray.models.build import build_mats
from mats_ray.models.directory import ModelSettings, save_model
from mats_ray.models.mats import MATS, TrainBatch
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.train.engine import TorchEngine, TrainEngine
from mats_ray.train.export import MODEL_SUBFOLDER, export
from mats_ray.train.follower import Follower
from mats_ray.train.loop import fit, run_hash
from mats_ray.train.state import load_checkpoint


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run left behind."""

    model: str
    """Model directory."""
    checkpoint: str
    metrics: str
    """``metrics.jsonl``: one record per log line."""
    steps: int
    final_loss: float


def train(config: RunConfig) -> TrainResult:
    """Train mapper and language model on embedded texts, from the run's last checkpoint if there is one.

    Raises:
        ConfigError: The Santa memory the model shall carry has not been built.
        DataError: The embedded triplets are missing or of another CLAP width, or the memory of another CLAP.
        TrainingError: The run failed; the cause is named.
    """
    data = _check_inputs(config)
    board: Any = _Board.remote()  # an actor handle; Ray types it as the class itself
    metrics = join(join(config.runs_dir, config.name), "metrics.jsonl")
    follower = Follower(
        lambda index: ray.get(board.since.remote(index)),
        path=metrics,
        label=f"train {config.name}",
        num_steps=config.train.num_steps,
        log_every=config.train.log_every,
    )
    with follower:
        try:
            result = _trainer(config, data, board).fit()
        except ray.train.TrainingFailedError as error:
            raise TrainingError(f"the run {config.name!r} failed: {_cause(error)}") from error
    if result.return_value is not None:
        raise TrainingError(f"the run {config.name!r} failed: {result.return_value}")
    assert result.checkpoint is not None
    with result.checkpoint.as_directory() as directory:
        export(config, Path(directory), follower.last)
    steps, loss = int(follower.last["step"]), float(follower.last["loss"])
    return TrainResult(config.model_dir, str(result.checkpoint.path), metrics, steps, loss)


def _trainer(config: RunConfig, data: EmbeddedTriplets, board: Any) -> TorchTrainer:
    scaling, on_gpu = config.scaling, config.scaling.use_gpu
    return TorchTrainer(
        _worker,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "data": data,
            "board": board,
            "directory": str(Path.cwd()),
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=scaling.num_workers,
            use_gpu=on_gpu,
            resources_per_worker={"CPU": scaling.cpus_per_worker, "GPU": int(on_gpu)},
        ),
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        run_config=ray.train.RunConfig(
            name=config.name,
            storage_path=_storage(config.runs_dir),
            failure_config=ray.train.FailureConfig(max_failures=config.train.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=config.train.checkpoint.keep),
            worker_runtime_env={"env_vars": _worker_environment(config)},
        ),
    )


def _check_inputs(config: RunConfig) -> EmbeddedTriplets:
    """Fail on the driver, before workers start and hours pass."""
    if config.santa.enabled and not exists(config.memory_path):
        raise ConfigError(
            f"no Santa memory at {config.memory_path}; run `mats memory` first or set santa.enabled=false"
        )
    data = inspect(config.embedded_path)
    if data.identity.dim != config.model.clap.dim:
        raise DataError(
            f"{config.embedded_path} holds {data.identity.dim}-d embeddings, model.clap.dim is "
            f"{config.model.clap.dim}"
        )
    if config.santa.enabled:
        check_memory(config, data.identity)
    return data


def _worker(arguments: dict[str, Any]) -> str | None:
    """What every training worker runs; returns the text of an error that a restart would not mend."""
    # Ray Train moves its workers into a folder of their own; relative paths mean the driver's
    if Path(arguments["directory"]).is_dir():
        os.chdir(arguments["directory"])
    try:
        _train(arguments)
    except MATSError as error:
        return str(error)
    return None


def _train(arguments: dict[str, Any]) -> None:
    config = RunConfig.model_validate(arguments["config"])
    data: EmbeddedTriplets = arguments["data"]
    torch.set_num_threads(config.scaling.threads_per_worker)
    device = "cuda" if config.scaling.use_gpu else "cpu"
    context = _RayContext(arguments["board"])
    model, prompts = build_mats(config.model, llm_path=config.llm_path, seed=config.seed)
    engine = _engine(config, model, device)
    start = _resume(engine, config)

    def finish(directory: Path) -> None:
        save_model(
            directory / MODEL_SUBFOLDER, model, prompts, _settings(config, data), home=config.model_dir
        )

    batches = _batches(config, data, prompts, context, start_step=start)
    fit(engine, batches, context, config, start_step=start, finish=finish)


def _engine(config: RunConfig, model: MATS, device: str) -> TrainEngine:
    if config.train.engine.type == "torch":
        return TorchEngine(model, config.train.optim, device=device)
    from mats_ray.train.on_deepspeed import DeepSpeedEngine  # a slow import, for workers only

    return DeepSpeedEngine(model, config.train, device=device)


def _resume(engine: TrainEngine, config: RunConfig) -> int:
    """Load the run's last checkpoint, if any, and return the number of updates done."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as directory:
        state, run = load_checkpoint(Path(directory))
    if run.run_hash != run_hash(config):
        raise TrainingError(
            f"the run {config.name!r} in {config.runs_dir} was started with another configuration "
            f"(checkpoint at step {run.step}); choose another name, e.g. --set name={config.name}-2"
        )
    engine.load_state(state)
    return run.step


def _batches(
    config: RunConfig,
    data: EmbeddedTriplets,
    prompts: PromptTokenizer,
    context: "_RayContext",
    *,
    start_step: int,
) -> Iterator[TrainBatch]:
    size = config.train.global_batch_size
    place = StreamPlace(start_step * size, config.train.num_steps * size, context.rank, context.num_workers)
    if place.start == place.stop:
        return
    collate = Collator(prompts, config.model.llm.max_text_tokens)
    for rows in training_rows(config, data, place, micro_batch_size=config.train.micro_batch_size):
        yield collate(
            embedding_matrix(rows.column(EMBEDDING)),
            rows.column("instruction").to_pylist(),
            rows.column("answer").to_pylist(),
        )


class _RayContext:
    """``TrainContext`` on Ray Train."""

    def __init__(self, board: Any) -> None:
        context = ray.train.get_context()
        self.rank = context.get_world_rank()
        self.num_workers = context.get_world_size()
        self._board = board

    def log(self, record: dict[str, float]) -> None:
        """Send a record to the driver: ray.train.report would wait for the controller each time."""
        if self.rank == 0:
            self._board.put.remote(record)

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Upload a checkpoint and register it."""
        handle = ray.train.Checkpoint.from_directory(checkpoint) if checkpoint else None
        ray.train.report(metrics, checkpoint=handle)
        if checkpoint is not None:
            shutil.rmtree(checkpoint, ignore_errors=True)


@ray.remote(num_cpus=0)
class _Board:
    """Actor: metrics records on their way from the first worker to the driver."""

    def __init__(self) -> None:
        self.records: list[dict[str, float]] = []

    def put(self, record: dict[str, float]) -> None:
        self.records.append(record)

    def since(self, index: int) -> list[dict[str, float]]:
        return self.records[index:]


def _settings(config: RunConfig, data: EmbeddedTriplets) -> ModelSettings:
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


def _worker_environment(config: RunConfig) -> dict[str, str]:
    return {} if config.scaling.use_gpu else {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def _storage(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().absolute())


def _cause(error: BaseException) -> str:
    """The last line of the innermost cause: what went wrong, without the frameworks' traces."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
