"""Captioning a folder or bucket with Ray Data: decode on CPUs, answer on an actor pool, write on the driver.

    list -> [decode: actors] -> [answer: actors] -> driver: progress, Parquet parts

The driver writes because only one process can tell what is written and what is not, and because text is
small: finished rows come to it, audio never does.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset, ExecutionResources

from mats_ray.caption.answer import Responder
from mats_ray.caption.decode import BATCH_BYTES
from mats_ray.caption.job import CaptionJob, CaptionSummary
from mats_ray.caption.output import PartWriter
from mats_ray.caption.prompts import Questions
from mats_ray.config import RunConfig
from mats_ray.config.caption import CaptionConfig
from mats_ray.on_ray.data import MAX_RETRIES, execution, finished_blocks
from mats_ray.progress import Progress
from mats_ray.storage import held

logger = logging.getLogger(__name__)

DECODER_CPUS = 1

AHEAD_BYTES = 2 * BATCH_BYTES
"""Decoded sound that waits for each process of the job. Ray Data's own measure is a share of the machine, and
decoding, where it is the faster stage, would fill it: memory that grows with the number of files."""


def caption(
    config: RunConfig,
    *,
    audio: str,
    out: str,
    model: str,
    questions: Questions = (),
    labels: Sequence[str] = (),
) -> CaptionSummary:
    """Caption every audio file, or ask each of them every question; one row per file and prompt.

    What is already in ``out`` by the same model, prompt and content of the file is not done again, so a job
    that was killed goes on where it was and a finished one does nothing. Files that cannot be used become
    rows with a code and words.

    Args:
        config: Its ``caption`` section, and ``generation`` where it has one (else the model's own decoding).
        audio: Folder, file, s3:// or gs:// prefix, or a manifest (``data.manifest``).
        out: Folder or prefix of rows (``caption.rows.SCHEMA``).
        model: Model directory, seen by all nodes under this path.
        questions: Asked of every file, or of each path its own; a caption where there are none.
        labels: Every file is also compared with these, where there are any.

    Raises:
        ConfigError: A question is empty.
        ModelError: The model directory cannot be used.
        DataError: No audio, an output folder that is unusable or in use, rows lost, or too many error rows
            (all written).
    """
    with held(out, by="mats caption"):
        return carry_out(
            CaptionJob.plan(config, audio=audio, out=out, model=model, questions=questions, labels=labels)
        )


def carry_out(job: CaptionJob) -> CaptionSummary:
    """Do what a planned job lacks, write rows as they come, check and sum up; the caller holds its folder.

    Raises:
        ModelError: The model's weights cannot be used.
        DataError: Rows were lost, or too many are errors (all written).
    """
    if not job.is_done:
        _write_missing(job)
    return job.finish()


def _write_missing(job: CaptionJob) -> None:
    errors = Counter[str]()
    writer = PartWriter(job.store, kind=job.settings.format)
    with Progress("caption", total=job.num_files, unit="file") as progress, writer:
        progress.start_at(job.num_files_done)
        for rows in _stream(job):
            job.drop_outdated()
            writer.add(rows)
            errors.update(code for code in rows.column("error_code").to_pylist() if code)
            note = ", ".join(f"{count} {code}" for code, count in errors.most_common())
            progress.advance(_num_files_ended(rows), note=f"errors: {note}" if note else "")


def _num_files_ended(rows: pa.Table) -> int:
    return len(rows.filter(rows.column("is_last_segment")).column("path").unique())


def _stream(job: CaptionJob) -> Iterator[pa.Table]:
    """Yield finished rows block by block, in the order they finish."""
    _warn_if_too_small(job.settings)
    with execution() as context:
        _bound(context, job.settings)
        yield from finished_blocks(_dataset(job), prefetch=1)


def _bound(context: DataContext, settings: CaptionConfig) -> None:
    processes, options = settings.concurrency + settings.decode_concurrency, context.execution_options
    bound = ExecutionResources.for_limits(object_store_memory=processes * AHEAD_BYTES)
    options.resource_limits = options.resource_limits.min(bound)


def _dataset(job: CaptionJob) -> Dataset:
    settings = job.settings
    # Actors have their next batch with them while they decode one, where a task waits for the driver.
    # One to begin with: all at once could take the processors that the models' processes still need.
    decoded = ray.data.from_arrow(job.todo()).map_batches(
        type(job.decoder),  # pyright: ignore[reportArgumentType]  (a table, as batch_format says)
        fn_constructor_kwargs=vars(job.decoder),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=settings.decode_concurrency),
        num_cpus=DECODER_CPUS,
        max_task_retries=MAX_RETRIES,
    )
    return decoded.map_batches(
        Responder,  # pyright: ignore[reportArgumentType]
        fn_constructor_args=[job.responder],
        batch_size=1,  # a packed batch
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=settings.concurrency),
        num_cpus=settings.cpus_per_actor,
        num_gpus=settings.gpus_per_actor or None,
        max_task_retries=MAX_RETRIES,
    )


def _warn_if_too_small(settings: CaptionConfig) -> None:
    """Say why nothing moves, if nothing will: Ray waits without a word for processors that never come."""
    needed = settings.concurrency * settings.cpus_per_actor + DECODER_CPUS
    there = ray.cluster_resources().get("CPU", 0) if ray.is_initialized() else None
    if there is not None and needed > there:
        logger.warning(
            "captioning needs %g CPUs (%d x caption.cpus_per_actor=%g and %g to decode), the cluster has %g; "
            "it waits until there are more",
            *(needed, settings.concurrency, settings.cpus_per_actor, DECODER_CPUS, there),
        )
