"""Captioning a folder or bucket with Ray Data: decode on CPUs, answer on an actor pool, write on the driver.

    driver: requests -> batches -> [BatchFeed] -> source task -> decode actors -> answer actors -> driver:
        rows, parts

The driver writes because one process alone can know which rows are written, and because text is small:
finished rows are sent to it, audio never is.
"""

# pyarrow.compute makes its functions when it is imported
# pyright: reportAttributeAccessIssue=false

import functools
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset, ExecutionResources
from ray.exceptions import RayActorError

from mats_ray.caption.answer import AnswerStage
from mats_ray.caption.batch_feed import BatchFeed
from mats_ray.caption.decode import BATCH_BYTES, DecodeStage, pack_table, unpack
from mats_ray.caption.embeddings import EmbeddingStore, EncodeSettings, EncodeStage
from mats_ray.caption.job import CaptionJob
from mats_ray.caption.pooling import WindowPool, WindowSum
from mats_ray.caption.prompts import Questions
from mats_ray.caption.summary import CaptionSummary
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.generation import GenerationConfig
from mats_ray.data.audio_files import AudioObject
from mats_ray.on_ray.data import MAX_RETRIES, execution, finished_blocks, this_node
from mats_ray.on_ray.errors import own_error
from mats_ray.on_ray.resources import warn_if_too_few
from mats_ray.progress import Progress
from mats_ray.storage import Environment, lock_folder
from mats_ray.storage.s3_pages import Page

DECODER_CPUS = 1

PREFETCH_BYTES = 2 * BATCH_BYTES
"""Maximum size of the decoded samples waiting, per process of the job. Ray Data's own limit is a share of the
machine, and decoding, where it is the faster stage, would fill it: memory that grows with the files."""

LONGEST_EXIT_SECONDS = 10
"""Longest wait for the thread that makes batches, which is still at work if the job has failed."""

BATCHES_PER_PROCESS = 16
"""Number of batches under way, per process of the job: enough for all to be at work, and few enough for the
driver to hold their files."""


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

    Rows of the same model, prompt and content of the file that are already in ``out`` are not computed again:
    a killed job is continued. Files that cannot be used become rows with an error code and a message.

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
        ConfigError: A question is empty, or ``out`` is the folder of the embeddings.
        ModelError: The model directory or its weights cannot be used.
        DataError: No audio, output folder unusable or in use, rows lost, too many error rows (all written).
    """
    with lock_folder(out, by="mats caption") as lock:
        what = {"audio": audio, "out": out, "model": model, "questions": questions, "labels": labels}
        with CaptionJob(settings, generation, **what) as job:
            job.check = lock.check
            batches = job.batches()
            if (first := next(batches, None)) is not None:
                with cluster():
                    write_missing_rows(job, itertools.chain([first], batches))
        return job.finish()


def write_missing_rows(job: CaptionJob, batches: Iterable[pa.Table]) -> None:
    """Compute the rows of batches and write them as they come.

    Raises:
        ModelError: The model's weights cannot be used.
        DataError: The output cannot be written, or the audio cannot be listed any more.
    """
    if job.embeddings is not None:
        write_missing_embeddings(job, job.embeddings)
    _warn_if_too_small(job.settings)
    job.source.run_on(_list_on_cluster)
    errors, tables = Counter[str](), batches if job.embeddings is None else map(job.embedded, batches)
    sized = ((table, pc.sum(pc.list_value_length(table["prompts"])).as_py() or 0) for table in tables)
    with Progress("caption", total=None, unit="file") as progress, _Stream(job, sized) as stream:
        stage = functools.partial(AnswerStage, job.answer_settings, stream.add_windows)
        for rows in stream.results(_AnswerStage, stage, decode=job.embeddings is None):
            accepted = job.accept(rows)
            stream.end(accepted.batches, accepted.files)
            errors.update(code for code in accepted.rows.column("error_code").to_pylist() if code)
            _show(progress, job, ", ".join(f"{count} {code}" for code, count in errors.most_common()))
        _show(progress, job)


def write_missing_embeddings(job: CaptionJob, store: EmbeddingStore) -> None:
    """Embed the files that have no embedding yet, and write them as they come.

    Raises:
        ModelError: The CLAP cannot be used.
        DataError: The folder cannot be written.
    """
    files, number_of = job.files_to_encode(), dict[str, int]()
    if (first := next(files, None)) is None:
        return

    def numbered() -> Iterator[tuple[pa.Table, int]]:
        for number, table in enumerate(itertools.chain([first], files)):
            number_of.update(dict.fromkeys(table["path"].to_pylist(), number))
            yield table, len(table)

    answer = job.answer_settings
    settings = EncodeSettings(model=answer.model, num_threads=answer.num_threads, device=answer.device)
    with (
        Progress("embed audio", total=None, unit="file") as progress,
        store.writing(number_of),
        _Stream(job, numbered()) as stream,
    ):
        stage = functools.partial(EncodeStage, settings, stream.add_windows)
        for rows in stream.results(_EncodeStage, stage):
            paths = [path for path in rows["path"].to_pylist() if path in number_of]
            store.add(rows)  # before they leave number_of: a path is in flight until its row is there
            stream.end(Counter(number_of.pop(path) for path in paths), paths)
            progress.advance(len(paths))


class _Stream:
    """Context manager around Ray Data at work on batches that are made meanwhile, in a thread.

    Args:
        job: Its settings.
        batches: Tables, each with the number of results that end it.

    Attributes:
        add_windows: ``WindowPool.add`` of the pool that all processes of a stage share.
    """

    def __init__(self, job: CaptionJob, batches: Iterable[tuple[pa.Table, int]]) -> None:
        self._job, self._batches = job, batches
        self._feed = _on_driver_node(BatchFeed, BATCHES_PER_PROCESS * _num_processes(job.settings))
        self._pool = _on_driver_node(WindowPool)
        self.add_windows = functools.partial(_add_windows, self._pool)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._put_batches, name="requests", daemon=True)

    def __enter__(self) -> "_Stream":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for actor in (self._feed, self._pool):  # Ray Data may keep handles; the thread may wait for the feed
            ray.kill(actor)
        if kind is not None:
            self._job.cancel()
        # a storage that does not answer may hold it for minutes
        self._thread.join(timeout=LONGEST_EXIT_SECONDS)

    def end(self, results: Mapping[int, int], paths: Sequence[str]) -> None:
        """Count results of batches by their numbers, and forget files that have all of theirs."""
        self._feed.end.remote(dict(results))
        self._pool.remove.remote(paths)

    def results(self, actor: Any, stage: Callable[[], Any], *, decode: bool = True) -> Iterator[pa.Table]:
        """Yield the tables of a stage, in the order they are finished.

        Args:
            actor: Class that runs the stage.
            stage: Makes it, in another process.
            decode: Whether the batches are files, to be decoded first.

        Raises:
            MATSError: Raised by a stage, or while batches were made.
        """
        settings = self._job.settings
        with execution() as context:
            _stream_batches(context, settings)
            batches = _source(self._feed)
            if decode:
                batches = _decoded(batches, self._job, self._report("decode"))
            name = actor.__name__.removeprefix("_").removesuffix("Stage").lower()
            results = _with_actors(batches, actor, [stage, self._report(name)], settings)
            for packed in finished_blocks(results, prefetch=1):
                yield from unpack(packed)
        self._thread.join()
        if self._failure is not None:
            raise own_error(self._failure) or self._failure
        self._job.stage_seconds.update(ray.get(self._feed.seconds.remote()))

    def _report(self, stage: str) -> "_Report":
        return functools.partial(_report, self._feed, stage)

    def _put_batches(self) -> None:
        try:
            for table, size in self._batches:
                ray.get(self._feed.put.remote(table, size))
        except RayActorError:  # the feed was killed, as the job failed
            return
        except Exception as error:  # noqa: BLE001  (raised in the thread that reads)
            self._failure = error
        self._feed.close.remote()


_Report = Callable[[float], None]
"""Reports seconds of work."""


def _report(feed: Any, stage: str, seconds: float) -> None:
    feed.add_seconds.remote(stage, seconds)


class _DecodeStage:
    """Actor: decodes the files of a batch."""

    def __init__(self, stage: DecodeStage, report: _Report) -> None:
        self._stage, self._report = stage, report

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        for files in unpack(table):
            clips = iter(self._stage(files) if len(files) else ())
            while True:
                started = time.perf_counter()
                batch = next(clips, None)
                self._report(time.perf_counter() - started)
                if batch is None:
                    break
                yield batch


class _ModelStage:
    """Actor: a stage with a model."""

    def __init__(self, make: Callable[[], Any], report: _Report) -> None:
        self._stage, self._report = make(), report

    def __call__(self, table: pa.Table) -> pa.Table:
        started = time.perf_counter()
        rows = self._stage(table)
        self._report(time.perf_counter() - started)
        return pack_table(rows)


class _AnswerStage(_ModelStage): ...


class _EncodeStage(_ModelStage): ...


def _stream_batches(context: DataContext, settings: CaptionConfig) -> None:
    """Set Ray Data to pass on every batch by itself, as soon as it is there."""
    options, prefetch = context.execution_options, _num_processes(settings) * PREFETCH_BYTES
    limits = ExecutionResources.for_limits(object_store_memory=prefetch)
    options.resource_limits = options.resource_limits.min(limits)
    context.target_max_block_size = 1  # a batch is one row, which is never split
    context.issue_detectors_config.detectors = []  # the source runs as long as the job: it does not hang


def _num_processes(settings: CaptionConfig) -> int:
    return settings.concurrency + settings.decode_concurrency


def _source(feed: Any) -> Dataset:
    """Read the batches in a task on the driver's node, which is lost with the driver only.

    A turn of Ray Data's loop takes a tenth of a second, and of a task at most two blocks unless told
    otherwise: 16 batches a second for the whole job. The feed bounds what is under way.
    """
    return ray.data.from_items([0]).map_batches(
        _read_batches,  # pyright: ignore[reportArgumentType]  (a table, as batch_format says)
        fn_args=[feed],
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0,
        scheduling_strategy=this_node(),
        _generator_backpressure_num_objects=-1,
    )


def _read_batches(_: pa.Table, feed: Any) -> Iterator[pa.Table]:
    for number in itertools.count():
        if (batch := ray.get(feed.get.remote(number))) is None:
            return
        yield pack_table(batch)


def _decoded(batches: Dataset, job: CaptionJob, report: _Report) -> Dataset:
    # An actor gets its next batch while it decodes one, a task would wait for the driver. One actor at first:
    # all at once could use the CPUs that the answering processes still need.
    return batches.map_batches(
        _DecodeStage,  # pyright: ignore[reportArgumentType]  (a table, as batch_format says)
        fn_constructor_args=[job.decode_stage, report],
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=job.settings.decode_concurrency),
        num_cpus=DECODER_CPUS,
        max_task_retries=MAX_RETRIES,
    )


def _with_actors(batches: Dataset, stage: Any, arguments: list[Any], settings: CaptionConfig) -> Dataset:
    return batches.map_batches(
        stage,
        fn_constructor_args=arguments,
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=settings.concurrency),
        num_cpus=settings.cpus_per_actor,
        num_gpus=settings.gpus_per_actor or None,
        max_task_retries=MAX_RETRIES,
    )


def _list_on_cluster(function: Callable[..., Page], *args: Any, **kwargs: Any) -> "Future[Page]":
    """Run a call of a listing as a task; without a CPU of its own, as the stages may hold all of them."""
    task = ray.remote(_call).options(num_cpus=0, scheduling_strategy="SPREAD")
    return task.remote(Environment(), function, args, kwargs).future()


def _call(environment: Environment, function: Callable[..., Page], args: Any, kwargs: Any) -> Page:
    environment.use()
    return function(*args, **kwargs)


def _on_driver_node(actor: Any, *arguments: Any) -> Any:
    """Start an actor on the driver's node: it must not end with another one."""
    if not ray.is_initialized():
        ray.init()  # as Ray Data would
    return ray.remote(actor).options(num_cpus=0, scheduling_strategy=this_node()).remote(*arguments)


def _add_windows(pool: Any, windows: WindowSum) -> WindowSum | None:
    return ray.get(pool.add.remote(windows))


def _show(progress: Progress, job: CaptionJob, errors: str = "") -> None:
    progress.start_at(job.num_files_done)
    progress.total = job.num_files if job.is_listed else None
    notes = [f"errors: {errors}" if errors else "", "" if job.is_listed else f"{job.num_files} found so far"]
    progress.update(job.num_files_done + job.num_files_new, note=", ".join(note for note in notes if note))


def _warn_if_too_small(settings: CaptionConfig) -> None:
    number, cpus, gpus = settings.concurrency, settings.cpus_per_actor, settings.gpus_per_actor
    terms = f"{number} x caption.cpus_per_actor={cpus:g} and {DECODER_CPUS:g} to decode"
    warn_if_too_few("captioning", "CPU", number * cpus + DECODER_CPUS, terms=terms)
    warn_if_too_few("captioning", "GPU", number * gpus, terms=f"{number} x caption.gpus_per_actor={gpus:g}")
