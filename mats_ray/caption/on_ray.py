"""Captioning a folder or bucket with Ray Data: decode on CPUs, answer on an actor pool, write on the driver.

The driver writes because one process alone can know which rows are written, and because text is small:
finished rows are sent to it, audio never is.
"""

import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset, ExecutionResources
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mats_ray.caption.answer import AnswerStage
from mats_ray.caption.decode import BATCH_BYTES
from mats_ray.caption.embeddings import EmbeddingStore, EncodeSettings, EncodeStage
from mats_ray.caption.job import CaptionJob, CaptionSummary
from mats_ray.caption.output import PartWriter
from mats_ray.caption.pooling import WindowPool, WindowSum
from mats_ray.caption.prompts import Questions
from mats_ray.caption.rows import with_manifest
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.generation import GenerationConfig
from mats_ray.data.audio_files import AudioObject
from mats_ray.on_ray.data import MAX_RETRIES, execution, finished_blocks
from mats_ray.progress import Progress
from mats_ray.storage import lock_folder

logger = logging.getLogger(__name__)

DECODER_CPUS = 1

PREFETCH_BYTES = 2 * BATCH_BYTES
"""Maximum size of the decoded samples waiting, per process of the job. Ray Data's own limit is a share of the
machine, and decoding, where it is the faster stage, would fill it: memory that grows with the files."""


def caption(
    settings: CaptionConfig,
    generation: GenerationConfig | None = None,
    *,
    audio: str | Sequence[AudioObject],
    out: str,
    model: str,
    questions: Questions = (),
    labels: Sequence[str] = (),
    cluster: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> CaptionSummary:
    """Caption every audio file, or answer questions about each of them; one row per file and prompt.

    Rows of the same model, prompt and content of the file that are already in ``out`` are not computed again,
    so a job that was killed is continued and a finished one does nothing. Files that cannot be used become
    rows with an error code and a message.

    Args:
        settings: Section ``caption``.
        generation: Section ``generation``; the model's own where None.
        audio: Folder, file, s3:// or gs:// prefix, a manifest (``data.manifest``), or listed files.
        out: Folder or prefix of the rows (``caption.rows.SCHEMA``).
        model: Model directory, seen by all nodes under this path.
        questions: Questions about every file, or by path about each file; without any it is captioned.
        labels: Every file is also compared with these, where there are any.
        cluster: Starts Ray. Entered once the job is planned, and only if rows are missing.

    Raises:
        ConfigError: A question is empty.
        ModelError: The model directory or its weights cannot be used.
        DataError: No audio, output folder unusable or in use, rows lost, too many error rows (all written).
    """
    with lock_folder(out, by="mats caption"):
        job = CaptionJob.plan(
            settings, generation, audio=audio, out=out, model=model, questions=questions, labels=labels
        )
        if not job.is_done:
            with cluster():
                write_missing_rows(job)
        return job.finish()


def write_missing_rows(job: CaptionJob) -> None:
    """Compute the rows that the output lacks and write them as they come.

    Raises:
        ModelError: The model's weights cannot be used.
        DataError: The output cannot be written.
    """
    if job.embeddings is not None:
        write_missing_embeddings(job, job.embeddings)
    errors = Counter[str]()
    pool, writer = _start_pool(), PartWriter(job.store, file_format=job.settings.format)
    with Progress("caption", total=job.num_files, unit="file") as progress, writer:
        progress.start_at(job.num_files_done)
        for rows in _finished_rows(job, pool):
            if not len(rows):  # a batch of windows whose file is not complete
                continue
            job.drop_outdated()
            writer.add(with_manifest(rows, job.manifest))
            pool.remove.remote(rows.column("path").unique().to_pylist())
            errors.update(code for code in rows.column("error_code").to_pylist() if code)
            note = ", ".join(f"{count} {code}" for code, count in errors.most_common())
            progress.advance(_num_files_ended(rows), note=f"errors: {note}" if note else "")


def write_missing_embeddings(job: CaptionJob, store: EmbeddingStore) -> None:
    """Embed the files that have no embedding yet, and write them as they come.

    Raises:
        ModelError: The CLAP cannot be used.
        DataError: The folder cannot be written.
    """
    if not (files := job.files_to_encode()):
        return
    settings, pool = job.settings, _start_pool()
    stage = job.answer_settings
    encode = EncodeSettings(model=stage.model, num_threads=stage.num_threads, device=stage.device)
    total = sum(map(len, files))
    progress = Progress("embed audio", total=total, unit="file")
    with progress, PartWriter(store.parts) as writer, execution() as context:
        _limit_prefetch(context, settings)
        dataset = _with_actors(_decoded(job, files), EncodeStage, [encode, _adder(pool)], settings)
        for rows in finished_blocks(dataset, prefetch=1):
            if len(rows):  # else a batch of windows whose file is not complete
                writer.add(rows)
                pool.remove.remote(rows.column("path").to_pylist())
                progress.advance(len(rows))


def _start_pool() -> Any:
    """Start the actor that pools windows, on the driver's node: it must not end with another one."""
    if not ray.is_initialized():
        ray.init()  # as Ray Data would
    driver_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(WindowPool).options(num_cpus=0, scheduling_strategy=driver_node).remote()


def _add_windows(pool: Any, windows: WindowSum) -> WindowSum | None:
    return ray.get(pool.add.remote(windows))


def _num_files_ended(rows: pa.Table) -> int:
    return len(rows.filter(rows.column("is_last_segment")).column("path").unique())


def _finished_rows(job: CaptionJob, pool: Any) -> Iterator[pa.Table]:
    """Yield rows block by block, in the order they are finished."""
    _warn_if_too_small(job.settings)
    with execution() as context:
        _limit_prefetch(context, job.settings)
        yield from finished_blocks(_dataset(job, pool), prefetch=1)


def _limit_prefetch(context: DataContext, settings: CaptionConfig) -> None:
    processes, options = settings.concurrency + settings.decode_concurrency, context.execution_options
    limits = ExecutionResources.for_limits(object_store_memory=processes * PREFETCH_BYTES)
    options.resource_limits = options.resource_limits.min(limits)


def _dataset(job: CaptionJob, pool: Any) -> Dataset:
    arguments = [job.answer_settings, _adder(pool)]
    if job.embeddings is None:
        return _with_actors(_decoded(job, job.missing_files()), AnswerStage, arguments, job.settings)
    clips = ray.data.from_blocks(job.missing_embedded())
    return _with_actors(clips, AnswerStage, arguments, job.settings, batch_size=job.settings.batch_size)


def _decoded(job: CaptionJob, files: list[pa.Table]) -> Dataset:
    # An actor gets its next batch while it decodes one, a task would wait for the driver. One actor at first:
    # all at once could use the CPUs that the answering processes still need.
    return ray.data.from_blocks(files).map_batches(
        type(job.decode_stage),  # pyright: ignore[reportArgumentType]  (a table, as batch_format says)
        fn_constructor_kwargs=vars(job.decode_stage),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=job.settings.decode_concurrency),
        num_cpus=DECODER_CPUS,
        max_task_retries=MAX_RETRIES,
    )


def _with_actors(
    clips: Dataset, stage: Any, arguments: list[Any], settings: CaptionConfig, *, batch_size: int = 1
) -> Dataset:
    """Apply a stage in its actors; ``batch_size`` is in rows, of which a packed batch is one."""
    return clips.map_batches(
        stage,
        fn_constructor_args=arguments,
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=settings.concurrency),
        num_cpus=settings.cpus_per_actor,
        num_gpus=settings.gpus_per_actor or None,
        max_task_retries=MAX_RETRIES,
    )


def _adder(pool: Any) -> Any:
    return functools.partial(_add_windows, pool)


def _warn_if_too_small(settings: CaptionConfig) -> None:
    """Log why nothing happens, if nothing will: Ray waits silently for CPUs that never come."""
    needed = settings.concurrency * settings.cpus_per_actor + DECODER_CPUS
    available = ray.cluster_resources().get("CPU", 0)
    if needed > available:
        logger.warning(
            "captioning needs %g CPUs (%d x caption.cpus_per_actor=%g and %g to decode), the cluster has %g; "
            "it waits until there are more",
            *(needed, settings.concurrency, settings.cpus_per_actor, DECODER_CPUS, available),
        )
