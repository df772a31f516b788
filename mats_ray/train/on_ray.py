"""Ray Train: workers around the training loop, checkpoints to storage, metrics back to the driver."""

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.train
import torch
from pyarrow import fs
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mats_ray.config import RunConfig
from mats_ray.config.run import join
from mats_ray.data.embedded import EmbeddedTriplets
from mats_ray.data.on_ray import training_rows
from mats_ray.data.stream import StreamPlace
from mats_ray.errors import MATSError, NotFiniteError, TrainingError
from mats_ray.models.build import build_mats
from mats_ray.models.directory import save_model
from mats_ray.on_ray.errors import failure_reason
from mats_ray.storage import Environment, held, is_remote, locate
from mats_ray.train.ahead import Ahead
from mats_ray.train.assemble import (
    build_engine,
    meter_of,
    model_settings,
    open_store,
    read,
    read_newest,
    run_dir,
    run_inputs,
    take_up,
    to_batches,
)
from mats_ray.train.checkpoints import CheckpointStore, Uploader
from mats_ray.train.context import Record, Sample
from mats_ray.train.engine import EngineState
from mats_ray.train.export import MODEL_SUBFOLDER, export
from mats_ray.train.follower import Follower, Logged
from mats_ray.train.inputs import check_inputs
from mats_ray.train.loop import Origin, fit
from mats_ray.train.state import RunState
from mats_ray.train.tracking import open_trackers
from mats_ray.train.validation import load_validation
from mats_ray.train.watchdog import Watchdog

TABLES_AHEAD, STEPS_AHEAD = 64, 2
"""Micro-batches as rows, and steps of them as tensors, that wait for a worker: megabytes at most."""
SECONDS_TO_SAY_WHY = 5.0
"""A worker that ends itself waits so long for its reason to arrive."""


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
        ConfigError: The Santa memory the model shall carry has not been built, or a tracker is not installed.
        DataError: The embedded triplets are missing or of another CLAP width, or the memory of another CLAP.
            Or another process trains this run.
        TrainingError: The run failed; the cause is named.
    """
    data = check_inputs(config)
    with held(run_dir(config), by="mats train"):
        return _carry_out(config, data)


def _carry_out(config: RunConfig, data: EmbeddedTriplets) -> TrainResult:
    board, store = _board_beside_driver(), open_store(config)
    metrics = join(run_dir(config), "metrics.jsonl")
    follower = Follower(
        lambda index: ray.get(board.since.remote(index)),
        path=metrics,
        label=f"train {config.name}",
        num_steps=config.train.num_steps,
        log_every=config.train.log_every,
        trackers=open_trackers(config),
        remembered=store.records(store.committed()[-1]) if store.committed() else (),
    )
    with follower:
        try:
            if store.find(config.train.num_steps) is None:  # or the run is finished: nothing need be started
                _trainer(config, data, board).fit()
        except ray.train.TrainingFailedError as error:
            raise TrainingError(
                f"the run {config.name!r} failed: {ray.get(board.reason.remote()) or failure_reason(error)}"
            ) from error
    if reason := ray.get(board.reason.remote()):
        raise TrainingError(f"the run {config.name!r} failed: {reason}")
    last = store.committed()[-1]
    with tempfile.TemporaryDirectory(prefix="mats-export-") as scratch:
        store.load(last, Path(scratch))
        export(config, Path(scratch), follower.last)
    steps, loss = int(follower.last["step"]), float(follower.last["loss"])
    return TrainResult(config.model_dir, last.path, metrics, steps, loss)


def _board_beside_driver() -> Any:
    """Ray would put the board anywhere, and the run would end with whatever node that is."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return _Board.options(scheduling_strategy=here).remote(Environment())


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
            num_workers=scaling.num_workers,  # two of them: elastic
            use_gpu=on_gpu,
            resources_per_worker={"CPU": scaling.cpus_per_worker, "GPU": int(on_gpu)},
            elastic_resize_monitor_interval_s=scaling.resize_seconds,
        ),
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        run_config=ray.train.RunConfig(
            name=config.name,
            **_storage(config.runs_dir),
            failure_config=ray.train.FailureConfig(max_failures=config.train.max_failures),
            worker_runtime_env={"env_vars": _worker_environment(config)},
        ),
    )


def _worker(arguments: dict[str, Any]) -> None:
    """What every training worker runs; what a restart would not mend is left on the board."""
    # Ray Train moves its workers into a folder of their own; relative paths mean the driver's
    if Path(arguments["directory"]).is_dir():
        os.chdir(arguments["directory"])
    board, config = arguments["board"], RunConfig.model_validate(arguments["config"])
    environment: Any = ray.get(board.environment.remote())
    environment.use()
    if ray.get(board.reason.remote()) is not None:
        return  # the group was restarted for nothing
    rank = ray.train.get_context().get_world_rank()

    def stalled(message: str) -> None:
        with contextlib.suppress(Exception):
            ray.get(board.stop.remote(message), timeout=SECONDS_TO_SAY_WHY)
        os._exit(1)  # the main thread hangs somewhere in C: nothing gentler reaches it

    with Watchdog(config.train.stall_seconds, who=f"worker {rank}", on_stall=stalled) as watchdog:
        try:
            _train(config, arguments["data"], _RayContext(board, watchdog, Uploader(open_store(config))))
        except NotFiniteError as error:
            ray.get(
                board.stop.remote(str(error), certain=error.certain)
            )  # every worker ends so, none need be torn out
        except MATSError as error:
            ray.get(board.stop.remote(str(error)))
            raise  # the others may wait for this worker: Ray ends them


def _train(config: RunConfig, data: EmbeddedTriplets, context: "_RayContext") -> None:
    torch.set_num_threads(config.scaling.threads_per_worker)
    device = "cuda" if config.scaling.use_gpu else "cpu"
    context.enter("loading a checkpoint", 0)
    found = _newest(open_store(config), rank=context.rank)
    start = found[1].step if found else 0
    with contextlib.closing(_rows(config, data, context, start_step=start)) as rows:
        context.enter("loading the model", start)
        model, prompts = build_mats(config.model, llm_path=config.llm_path, seed=config.seed)
        inputs = run_inputs(data, llm_path=config.llm_path if context.rank == 0 else None)
        meter = meter_of(config, model, device=device, num_workers=context.num_workers)
        engine = build_engine(config, model, device)
        if found:
            take_up(engine, *found, config, inputs)
        del found  # gigabytes
        context.enter("reading the validation data", start)
        validation = load_validation(
            config, prompts, data.identity, rank=context.rank, num_workers=context.num_workers
        )

        def finish(directory: Path, state: EngineState) -> None:
            settings, home = model_settings(config, data), config.model_dir
            save_model(
                directory / MODEL_SUBFOLDER, model, prompts, settings, home=home, trained=state.trained
            )

        depth = STEPS_AHEAD * config.train.accumulation_steps(context.num_workers)
        with contextlib.closing(Ahead(to_batches(rows, prompts, config), depth=depth)) as batches:
            fit(
                engine,
                batches,
                context,
                config,
                origin=Origin(start, inputs),
                validation=validation,
                meter=meter,
                finish=finish,
            )
    context.enter("uploading the last checkpoint", config.train.num_steps)
    context.uploader.wait()


def _newest(store: CheckpointStore, *, rank: int) -> tuple[EngineState, RunState] | None:
    """Read the run's newest checkpoint, if any.

    The first worker chooses: a worker thought dead may just be committing another one.
    """
    newest = read_newest(store) if rank == 0 else None
    step = broadcast_from_rank_zero(newest[0].step if newest else None)
    if step is None or newest is not None:
        return newest[1:] if newest else None
    stored = store.find(step)
    if stored is None:
        raise TrainingError(
            f"{store.path}: the first worker sees a checkpoint of step {step}, this one does not"
        )
    return read(store, stored)


def _rows(
    config: RunConfig, data: EmbeddedTriplets, context: "_RayContext", *, start_step: int
) -> Ahead[pa.Table]:
    """Begin to read at once: it takes Ray Data seconds to start, and loading the model takes as long."""
    size = config.train.global_batch_size
    place = StreamPlace(start_step * size, config.train.num_steps * size, context.rank, context.num_workers)
    rows = training_rows(config, data, place) if place.start < place.stop else ()
    return Ahead(rows, depth=TABLES_AHEAD)


class _RayContext:
    """``TrainContext`` on Ray Train."""

    def __init__(self, board: Any, watchdog: Watchdog, uploader: Uploader) -> None:
        context = ray.train.get_context()
        self.rank = context.get_world_rank()
        self.num_workers = context.get_world_size()
        self.uploader = uploader
        self._board, self._watchdog = board, watchdog

    def enter(self, stage: str, step: int) -> None:
        """See ``TrainContext``."""
        self._watchdog.enter(stage, step)

    def log(self, record: Record, samples: Sequence[Sample] = ()) -> None:
        """Send a record to the driver: ray.train.report would wait for the controller each time."""
        if self.rank == 0:
            self._board.put.remote(record, samples)

    def keep(self, checkpoint: Path, step: int) -> None:
        """Upload a checkpoint in the background."""
        self.uploader.submit(checkpoint, step)


@ray.remote(num_cpus=0)
class _Board:
    """Actor: how workers reach S3; and from them to the driver: metrics records, and why the run must end."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment  # train_loop_config would be shown in Ray's dashboard
        self.logged: list[Logged] = []
        self.why: tuple[bool, str] | None = None

    def environment(self) -> Environment:
        return self._environment

    def put(self, record: Record, samples: Sequence[Sample]) -> None:
        self.logged.append((record, samples))

    def since(self, index: int) -> list[Logged]:
        return self.logged[index:]

    def stop(self, why: str, *, certain: bool = False) -> None:
        """Note a reason; the first one counts, unless a later one is more certain."""
        if self.why is None or (certain and not self.why[0]):
            self.why = (certain, why)

    def reason(self) -> str | None:
        return self.why[1] if self.why else None


def _worker_environment(config: RunConfig) -> dict[str, str]:
    return {} if config.scaling.use_gpu else {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def _storage(path: str) -> dict[str, Any]:
    """Name the place of Ray Train's own notes; a URI it would read in its own way, as pyarrow does."""
    files, key = locate(path)
    if not is_remote(path):
        return {"storage_path": key}
    return {"storage_path": key, "storage_filesystem": fs.PyFileSystem(fs.FSSpecHandler(files))}
