"""Ray Train: workers around the training loop, checkpoints to storage, metrics back to the driver."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.train
import torch
from pyarrow import fs
from ray.exceptions import RayError
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchConfig, TorchTrainer

from mats_ray.config import RunConfig
from mats_ray.config.run import join
from mats_ray.data.embedded import EmbeddedTriplets
from mats_ray.data.embedding.noise_variance import VarianceEstimate, training_variance
from mats_ray.data.on_ray import start_reader, training_rows
from mats_ray.data.stream import StreamPlace
from mats_ray.errors import NotFiniteError, TrainingError
from mats_ray.models.build import build_mats
from mats_ray.models.directory import save_model
from mats_ray.models.mats import TrainBatch
from mats_ray.models.prompt import PromptTokenizer, load_prompts
from mats_ray.on_ray.data import this_node
from mats_ray.on_ray.errors import failure_reason, own_error
from mats_ray.storage import Environment, is_remote, locate, lock_folder
from mats_ray.train.checkpoints import CheckpointStore, CheckpointUploader, open_store, restore
from mats_ray.train.dataloader import Prefetcher, micro_batches
from mats_ray.train.engine import EngineState, build_engine
from mats_ray.train.export import MODEL_SUBFOLDER, export, model_settings
from mats_ray.train.init_from import initial_hash, initial_state
from mats_ray.train.inputs import check_inputs, with_noise_variance
from mats_ray.train.loop import fit
from mats_ray.train.metrics import mfu_meter
from mats_ray.train.metrics_logger import LogEntry, MetricsLogger
from mats_ray.train.run_state import UNKNOWN_INPUTS, RunInputs, RunState, fresh_state, run_inputs
from mats_ray.train.tracking import Record, Sample, open_trackers
from mats_ray.train.validation import load_validation
from mats_ray.train.watchdog import Watchdog

FAILURE_REPORT_SECONDS = 5.0
"""Time a worker that ends itself waits for its reason to reach the coordinator."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Output of a run."""

    model: str
    """Model directory."""
    checkpoint: str
    metrics: str
    """``metrics.jsonl``: one record per log line."""
    steps: int
    final_loss: float


def train(
    config: RunConfig, *, cluster: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
) -> TrainResult:
    """Train mapper and language model on embedded texts, from the run's last checkpoint if there is one.

    Args:
        config: Configuration of the run.
        cluster: Starts Ray. Entered once the inputs have been checked.

    Raises:
        ConfigError: The Santa memory the model shall carry has not been built, or a tracker is not installed.
        DataError: The embedded triplets are missing or of another CLAP width, or the memory of another CLAP.
            Or another process trains this run.
        TrainingError: The run failed; the cause is named.
    """
    data = check_inputs(config)
    with lock_folder(config.run_dir, by="mats train"), cluster():
        return _train_and_export(with_noise_variance(config, variance_on_a_worker), data)


def _train_and_export(config: RunConfig, data: EmbeddedTriplets) -> TrainResult:
    coordinator, store = _coordinator_on_this_node(), open_store(config)
    metrics, committed = join(config.run_dir, "metrics.jsonl"), store.committed()
    metrics_logger = MetricsLogger(
        lambda index: ray.get(coordinator.entries_from.remote(index)),
        path=metrics,
        label=f"train {config.name}",
        num_steps=config.train.num_steps,
        log_every=config.train.log_every,
        trackers=open_trackers(config),
        checkpoint_records=store.records(committed[-1]) if committed else (),
    )
    with metrics_logger:
        try:
            if store.find(config.train.num_steps) is None:  # otherwise the run is finished
                _trainer(config, data, coordinator).fit()
        except ray.train.TrainingFailedError as error:
            reason = ray.get(coordinator.failure.remote()) or failure_reason(error)
            raise TrainingError(f"the run {config.name!r} failed: {reason}") from error
    if reason := ray.get(coordinator.failure.remote()):
        raise TrainingError(f"the run {config.name!r} failed: {reason}")
    last = store.committed()[-1]
    with tempfile.TemporaryDirectory(prefix="mats-export-") as scratch:
        store.download(last, Path(scratch))
        export(config, Path(scratch), metrics_logger.last)
    steps, loss = int(metrics_logger.last["step"]), float(metrics_logger.last["loss"])
    return TrainResult(config.model_dir, last.path, metrics, steps, loss)


def variance_on_a_worker(config: RunConfig) -> VarianceEstimate:
    """Estimate the noise variance in a task that takes a training worker's resources.

    The driver's node may have no GPU and less memory than a CLAP takes.

    Raises:
        DataError: No clip of the embedded triplets has two captions.
        ModelError: The CLAP cannot be loaded.
        TrainingError: The task's process died.
    """
    resources = _worker_resources(config)
    task = ray.remote(max_calls=1)(_estimate_variance).options(  # its process ends with the CLAP it loaded
        num_cpus=resources["CPU"],
        num_gpus=resources["GPU"],
        runtime_env={"env_vars": _worker_environment(config)},
    )
    try:
        return ray.get(task.remote(config.model_dump(mode="json"), Environment()))
    except RayError as error:
        if (own := own_error(error)) is not None:
            raise own from error
        raise TrainingError(
            f"the noise variance of {config.name!r} could not be estimated: {failure_reason(error)}"
        ) from error


def _estimate_variance(config: dict[str, Any], environment: Environment) -> VarianceEstimate:
    environment.use()
    run = RunConfig.model_validate(config)
    torch.set_num_threads(run.scaling.threads_per_worker)
    return training_variance(run)


def _worker_resources(config: RunConfig) -> dict[str, float]:
    return {"CPU": config.scaling.cpus_per_worker, "GPU": int(config.scaling.use_gpu)}


def _coordinator_on_this_node() -> Any:
    """Ray would put the actor on any node, and the run would end with that node."""
    return _Coordinator.options(scheduling_strategy=this_node()).remote(Environment())


def _trainer(config: RunConfig, data: EmbeddedTriplets, coordinator: Any) -> TorchTrainer:
    scaling = config.scaling
    return TorchTrainer(
        _run_worker,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "data": data,
            "coordinator": coordinator,
            "directory": str(Path.cwd()),
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=scaling.num_workers,  # two of them: elastic
            use_gpu=scaling.use_gpu,
            resources_per_worker=_worker_resources(config),
            elastic_resize_monitor_interval_s=scaling.resize_seconds,
        ),
        torch_config=TorchConfig(backend="nccl" if scaling.use_gpu else "gloo"),
        run_config=ray.train.RunConfig(
            name=config.name,
            **_storage(config.runs_dir),
            failure_config=ray.train.FailureConfig(max_failures=config.train.max_failures),
            worker_runtime_env={"env_vars": _worker_environment(config)},
        ),
    )


def _run_worker(arguments: dict[str, Any]) -> None:
    """Run one training worker; a failure that a restart would not fix is reported to the coordinator."""
    # Ray Train changes the directory of its workers; relative paths mean the driver's
    if Path(arguments["directory"]).is_dir():
        os.chdir(arguments["directory"])
    coordinator, config = arguments["coordinator"], RunConfig.model_validate(arguments["config"])
    environment: Any = ray.get(coordinator.environment.remote())
    environment.use()
    if ray.get(coordinator.failure.remote()) is not None:
        return  # Ray restarted the group after a failure that would come again
    rank = ray.train.get_context().get_world_rank()

    def stalled(message: str) -> None:
        with contextlib.suppress(Exception):
            ray.get(coordinator.fail.remote(message), timeout=FAILURE_REPORT_SECONDS)
        os._exit(1)  # the main thread hangs somewhere in C: nothing gentler reaches it

    with Watchdog(config.train.stall_seconds, worker=f"worker {rank}", on_stall=stalled) as watchdog:
        context = _RayTrainContext(coordinator, watchdog, CheckpointUploader(open_store(config)))
        try:
            _train(config, arguments["data"], context)
        except NotFiniteError as error:  # raised by all workers: each one can return
            ray.get(coordinator.fail.remote(str(error), certain=error.certain))
        except Exception as error:
            if (found := own_error(error)) is not None:  # of this process, or of one that reads the data
                ray.get(coordinator.fail.remote(str(found)))
            raise  # the others may wait for this worker: Ray ends them


def _train(config: RunConfig, data: EmbeddedTriplets, context: "_RayTrainContext") -> None:
    torch.set_num_threads(config.scaling.threads_per_worker)
    device = "cuda" if config.scaling.use_gpu else "cpu"
    context.enter_stage("loading a checkpoint", 0)
    found = _read_newest(open_store(config), rank=context.rank)
    start = found[1].step if found else 0
    context.enter_stage("loading the model", start)
    with contextlib.closing(_batches(config, data, context, start_step=start)) as batches:
        model, prompts = build_mats(config.model, llm_path=config.llm_path, seed=config.seed)
        inputs = _read_inputs(config, data, prompts, rank=context.rank)
        initial = None if found else initial_state(config, model)
        meter = mfu_meter(config, model, device=device, num_workers=context.num_workers)
        engine = build_engine(config, model, device)
        if found:
            restore(engine, *found, config, inputs)
        elif initial:
            engine.load_state(initial)
        began_at = replace(found[1], inputs=inputs) if found else fresh_state(inputs)
        del found, initial  # gigabytes
        context.enter_stage("reading the validation data", start)
        validation = load_validation(
            config, prompts, data.identity, rank=context.rank, num_workers=context.num_workers
        )

        def export_model(checkpoint: Path, state: EngineState) -> None:
            settings, folder = model_settings(config, data.identity), checkpoint / MODEL_SUBFOLDER
            save_model(folder, model, prompts, settings, home=config.model_dir, trained=state.trained)

        fit(
            engine,
            batches,
            context,
            config,
            start=began_at,
            validation=validation,
            meter=meter,
            export_model=export_model,
        )
    context.enter_stage("uploading the last checkpoint", config.train.num_steps)
    context.uploader.wait()


def _read_inputs(
    config: RunConfig, data: EmbeddedTriplets, prompts: PromptTokenizer, *, rank: int
) -> RunInputs:
    """Identify the inputs on the first worker, which compares and records them for all."""
    if rank != 0:
        return UNKNOWN_INPUTS
    return run_inputs(
        data, llm_path=config.llm_path, init_from=initial_hash(config), prompt=str(prompts.format)
    )


def _read_newest(store: CheckpointStore, *, rank: int) -> tuple[EngineState, RunState] | None:
    """Read the run's newest checkpoint, if any.

    Rank 0 chooses: a worker thought dead may just be committing another one.
    """
    newest = store.read_newest() if rank == 0 else None
    step = broadcast_from_rank_zero(newest[1].step if newest else None)
    if step is None or newest is not None:
        return newest
    checkpoint = store.find(step)
    if checkpoint is None:
        raise TrainingError(
            f"{store.path}: the first worker sees a checkpoint of step {step}, this one does not"
        )
    return store.read(checkpoint)


def _batches(
    config: RunConfig, data: EmbeddedTriplets, context: "_RayTrainContext", *, start_step: int
) -> Prefetcher[TrainBatch]:
    """Start reading before the model is loaded: Ray Data takes seconds to start, and so does the model.

    The first worker starts the actor that reads for all of them. The tokenizer is one of its own: the
    prefetch thread and validation must not share one.
    """
    size = config.train.global_batch_size
    place = StreamPlace(start_step * size, config.train.num_steps * size, context.rank, context.num_workers)
    rows: Iterable[pa.Table] = ()
    if place.start < place.stop:
        ranks = range(context.num_workers)
        reader = start_reader(config, data, place, ranks) if context.rank == 0 else None
        rows = training_rows(config, data, place, reader=broadcast_from_rank_zero(reader))
    prompts = load_prompts(config.llm_path, config.model.llm.prompt_format)
    return Prefetcher(micro_batches(rows, prompts, config))


class _RayTrainContext:
    """``TrainContext`` on Ray Train."""

    def __init__(self, coordinator: Any, watchdog: Watchdog, uploader: CheckpointUploader) -> None:
        context = ray.train.get_context()
        self.rank = context.get_world_rank()
        self.num_workers = context.get_world_size()
        self.uploader = uploader
        self._coordinator, self._watchdog = coordinator, watchdog

    def enter_stage(self, stage: str, step: int) -> None:
        """See ``TrainContext``."""
        self._watchdog.enter_stage(stage, step)

    def log(self, record: Record, samples: Sequence[Sample] = ()) -> None:
        """Send a record to the driver; ray.train.report would wait for the controller each time."""
        if self.rank == 0:
            self._coordinator.log.remote(record, samples)

    def store_checkpoint(self, folder: Path, step: int) -> None:
        """Upload a checkpoint in the background."""
        self.uploader.submit(folder, step)


@ray.remote(num_cpus=0)
class _Coordinator:
    """Actor: gives workers the driver's access to S3, and the driver their metrics and failure."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment  # train_loop_config would be shown in Ray's dashboard
        self._entries: list[LogEntry] = []
        self._failure: tuple[bool, str] | None = None

    def environment(self) -> Environment:
        return self._environment

    def log(self, record: Record, samples: Sequence[Sample]) -> None:
        self._entries.append((record, samples))

    def entries_from(self, index: int) -> list[LogEntry]:
        return self._entries[index:]

    def fail(self, reason: str, *, certain: bool = False) -> None:
        """Keep the reason of a failure: the first one, unless a later one is more certain."""
        if self._failure is None or (certain and not self._failure[0]):
            self._failure = (certain, reason)

    def failure(self) -> str | None:
        return self._failure[1] if self._failure else None


def _worker_environment(config: RunConfig) -> dict[str, str]:
    return {} if config.scaling.use_gpu else {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def _storage(path: str) -> dict[str, Any]:
    """Locate Ray Train's own files; it would parse a URI in pyarrow's way, not in ours."""
    files, key = locate(path)
    if not is_remote(path):
        return {"storage_path": key}
    return {"storage_path": key, "storage_filesystem": fs.PyFileSystem(fs.FSSpecHandler(files))}
