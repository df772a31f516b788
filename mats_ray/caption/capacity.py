"""Planned resources of a captioning job, by arithmetic: GPUs, hours, CPUs, requests, bytes, memory, resuming.

Counts follow from the numbers of objects, windows and prompts and are exact; bytes per row, seconds of CPU
and of the driver were measured (docs/scale.md); what a GPU reaches is assumed. Nothing is loaded or started.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from mats_ray.caption.clap_shape import clap_shape
from mats_ray.caption.gpu_time import (
    AnswerShape,
    Speed,
    answer_seconds,
    cache_bytes,
    mapper_flops,
)
from mats_ray.caption.output import FIRST_FLUSH_SECONDS, FLUSH_FRACTION
from mats_ray.config import RunConfig
from mats_ray.config.generation import PROFILES
from mats_ray.models.window_grid import WindowGrid
from mats_ray.storage.lock import HEARTBEAT_SECONDS
from mats_ray.storage.reading import CHUNK_BYTES
from mats_ray.storage.s3_prices import S3_STANDARD, S3Requests
from mats_ray.train.flops import LLMShape, num_mapper_parameters
from mats_ray.train.plan import ANSWER_SHARE, BYTES, GPU, RESERVED

SAMPLE_RATE = 44_100
"""Hertz at which windows are counted and decoded sound is passed on."""
BATCH_BYTES = 64 * 2**20
"""Size of decoded samples at which a batch ends: ``caption.decode``, which loads the codecs."""

KEYS_PER_LIST = 1_000
"""Most keys of one ListObjectsV2."""
KEYS_PER_SECOND = 30_000
"""Keys a second that two cores list and compare; the goal of the listing by shards."""
KEY_BYTES = 93
"""Bytes of path and etag of a row in Arrow: the keys that are merged."""
ROW_BYTES = 47
"""Bytes of a row in Parquet (zstd), with a caption of twelve words and an etag of 32 digits."""
ROW_KEY_BYTES = 25
"""Bytes of those that a resumed job reads."""
ROW_MEMORY_BYTES = 340
"""Bytes of a row that waits to be written, in Arrow."""
GETS_PER_PART = 3
"""Requests to read the keys of one part: size, footer, columns."""

DECODE_SPEED = 775.0
"""Seconds of sound that one core decodes and resamples in a second: Ogg Vorbis (benchmarks/caption.md)."""
GET_CPU_SECONDS = 0.0017
"""CPU of one request for an object of 160 kB."""
GET_WAIT_SECONDS = 0.05
"""Time to the last byte of a small object in S3; assumed. A decoder fetches one object after the other."""
DRIVER_BATCHES_PER_SECOND = 53.0
"""Batches a second that one driver hands to decoders and models and writes: simulated from its measured CPU
time, 16 nodes (docs/scale.md)."""
DRIVER_BASE_MB = 753.0
"""Memory of a driver in 10^6 bytes, with Ray, libraries and what allocators keep: with rows and listing it
is the 875 MB measured for ten million objects; for a million it was 702 (benchmarks/caption.md)."""
LISTED_BLOCK_ROWS = 131_072
"""Keys of the listing that are compared at a time; three such blocks are in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is to be captioned.

    Attributes:
        num_objects: Objects in the bucket.
        seconds_per_clip: Duration of each.
        bytes_per_second: Size of a second as it is stored; 16,000 is MP3 at 128 kbit/s.
        num_prompts: Prompts per object.
        text_tokens: Tokens of instruction and answer together; ``ANSWER_SHARE`` of them are the answer.
    """

    num_objects: int
    seconds_per_clip: float = 10.0
    bytes_per_second: float = 16_000
    num_prompts: int = 1
    text_tokens: int = 100

    @property
    def object_bytes(self) -> float:
        """Bytes of one object."""
        return self.seconds_per_clip * self.bytes_per_second

    @property
    def answer_tokens(self) -> int:
        """Tokens generated per answer."""
        return max(1, round(ANSWER_SHARE * self.text_tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What is there to caption it with.

    Attributes:
        gpu, num_gpus: The accelerators.
        mfu: Share of their operations that is reached.
        mbu: Share of their memory's bandwidth that is reached.
        clips_per_s: Measured rate of one GPU, objects a second; None: it is estimated.
        dollars_per_hour: Per GPU; the card's own when absent.
    """

    gpu: GPU
    num_gpus: int = 1
    mfu: float = 0.40
    mbu: float = 0.50
    clips_per_s: float | None = None
    dollars_per_hour: float | None = None

    @property
    def price(self) -> float:
        """Dollars per GPU and hour."""
        return self.gpu.dollars_per_hour if self.dollars_per_hour is None else self.dollars_per_hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The result; sizes in 10^9 bytes unless they say otherwise."""

    rows: int
    clips_per_s: float
    """Objects a second of one GPU."""
    hours: float
    limit: str
    """What it waits for: "GPUs", "driver" or "listing"."""
    clips_per_batch: int
    gpus_of_driver: int
    """GPUs that one driver keeps at work with such batches."""
    gpu_hours: float
    dollars: float
    decoders_per_gpu: int
    cpus_per_gpu: float
    """Cores at work with decoding, per GPU."""
    gpu_memory_gb: float
    requests: S3Requests
    request_dollars: float
    fetched_gb: float
    to_region_dollars: float
    """For all bytes fetched, if GPUs and bucket are in two regions."""
    decoded_gb: float
    output_gb: float
    parts: int
    keys_gb: float
    driver_mb: float
    resume_requests: S3Requests
    resume_gb: float
    resume_dollars: float
    resume_s: float


def plan_capacity(config: RunConfig, llm: LLMShape, work: Workload, cluster: Cluster) -> Capacity:
    """Compute what a job needs; each number is a function below."""
    counts = counts_of(config, work)
    rows = work.num_objects * counts.rows
    rate = cluster.clips_per_s or 1 / clip_seconds(config, llm, work, cluster)
    driver = driver_clips_per_s(clips_per_batch(config, work), counts.clips)
    limits = {"GPUs": cluster.num_gpus * rate, "driver": driver, "listing": float(KEYS_PER_SECOND)}
    limit = min(limits, key=lambda name: limits[name])
    hours = work.num_objects / limits[limit] / 3_600
    parts = num_parts(rows, config.caption.part_rows)
    requests = job_requests(work, num_writes(rows, 3_600 * hours, config.caption.part_rows), hours)
    fetched_gb = work.num_objects * work.object_bytes / 1e9
    decode_s, wait_s = decode_seconds(work)
    again = resume_requests(work, parts)
    return Capacity(
        rows=rows,
        clips_per_s=rate,
        hours=hours,
        limit=limit,
        clips_per_batch=clips_per_batch(config, work),
        gpus_of_driver=max(1, math.floor(driver / rate)),
        gpu_hours=hours * cluster.num_gpus,
        dollars=hours * cluster.num_gpus * cluster.price,
        decoders_per_gpu=math.ceil(rate * (decode_s + wait_s)),
        cpus_per_gpu=rate * decode_s,
        gpu_memory_gb=gpu_memory_gb(config, llm, work),
        requests=requests,
        request_dollars=requests.dollars(S3_STANDARD),
        fetched_gb=fetched_gb,
        to_region_dollars=fetched_gb * S3_STANDARD.to_region_gb,
        decoded_gb=decoded_gb(config, work),
        output_gb=rows * ROW_BYTES / 1e9,
        parts=parts,
        keys_gb=work.num_objects * KEY_BYTES / 1e9,
        driver_mb=driver_mb(rows, config.caption.part_rows),
        resume_requests=again,
        resume_gb=rows * ROW_KEY_BYTES / 1e9,
        resume_dollars=again.dollars(S3_STANDARD),
        resume_s=work.num_objects / KEYS_PER_SECOND,
    )


class Counts(NamedTuple):
    """What one object becomes."""

    clips: int
    """Entries of batches: the object, or each of its windows."""
    windows: int
    """Windows that CLAP encodes."""
    rows: int


def counts_of(config: RunConfig, work: Workload) -> Counts:
    """Count the clips, windows and rows of one object.

    Windows are those of ``WindowGrid``. There is a row per prompt, with ``caption.window`` and no
    ``caption.pool`` one per prompt and window. A window longer than CLAP's own is several windows to CLAP;
    with ``long_audio`` other than windows CLAP hears one of a clip.
    """
    caption, clap = config.caption, clap_shape(config.model.clap).window_seconds
    each = clap if config.model.clap.long_audio == "windows" else math.inf
    if caption.window is None:
        return Counts(clips=1, windows=_count(work.seconds_per_clip, each), rows=work.num_prompts)
    size = clap if caption.window == "clap" else caption.window
    clips = _count(work.seconds_per_clip, size, caption.hop)
    windows = clips * _count(min(size, work.seconds_per_clip), each)
    return Counts(clips=clips, windows=windows, rows=work.num_prompts * (1 if caption.pool else clips))


def _count(seconds: float, size: float, hop: float | None = None) -> int:
    if size == math.inf:
        return 1
    samples = [max(1, round(one * SAMPLE_RATE)) for one in (size, hop or size)]
    return WindowGrid.of(samples[0], SAMPLE_RATE, hop=samples[1]).count(round(seconds * SAMPLE_RATE))


def _window_seconds(config: RunConfig) -> float | None:
    """Return the length of ``caption.window``."""
    window = config.caption.window
    return clap_shape(config.model.clap).window_seconds if window == "clap" else window


def clip_seconds(config: RunConfig, llm: LLMShape, work: Workload, cluster: Cluster) -> float:
    """Return the seconds of one GPU per object: ``windows CLAP + rows (mapper + answer)``.

    See ``clap_shape`` and ``gpu_time``; CLAP is computed in float32.
    """
    counts = counts_of(config, work)
    speed = Speed(flops=cluster.gpu.bf16_flops * cluster.mfu, bandwidth=cluster.gpu.bandwidth * cluster.mbu)
    mapper = mapper_flops(config.model.mapper, clap_dim=config.model.clap.dim, llm_dim=llm.dim)
    answer = answer_seconds(llm, answer_shape(config, work), BYTES[config.model.llm.dtype], speed)
    clap = clap_shape(config.model.clap).flops / (cluster.gpu.fp32_flops * cluster.mfu)
    return counts.windows * clap + counts.rows * (mapper / speed.flops + answer)


def answer_shape(config: RunConfig, work: Workload) -> AnswerShape:
    """Return the sizes of an answer: prefix and instruction before it, beams of the profile."""
    return AnswerShape(
        prompt_tokens=config.model.mapper.prefix_length + work.text_tokens - work.answer_tokens,
        answer_tokens=work.answer_tokens,
        num_beams=PROFILES[config.generation.profile].num_beams,
        batch_size=min(config.caption.batch_size, clips_per_batch(config, work) * work.num_prompts),
    )


def gpu_memory_gb(config: RunConfig, llm: LLMShape, work: Workload) -> float:
    """Return the memory of one model: its weights, and keys and values of a batch at ``max_new_tokens``.

    ``weights + (1 + 1 / layers) b beams (prompt + max_new_tokens) cache``: one layer of a cache that grows is
    there twice. What the card keeps for itself (``RESERVED``) is left out.
    """
    answer = answer_shape(config, work)
    positions = answer.prompt_tokens + config.generation.max_new_tokens
    return answering_gb(config, llm, answer.batch_size * answer.num_beams * positions)


def answering_gb(config: RunConfig, llm: LLMShape, positions: int) -> float:
    """Return the memory of one model with keys and values of so many positions, see ``gpu_memory_gb``."""
    cache = positions * cache_bytes(llm, BYTES[config.model.llm.dtype])
    return model_weights_gb(config, llm) + (1 + 1 / llm.num_layers) * cache / 1e9


def model_weights_gb(config: RunConfig, llm: LLMShape) -> float:
    """Return the memory of the weights of one model: language model, mapper (float32) and CLAP."""
    mapper = num_mapper_parameters(config.model.mapper, clap_dim=config.model.clap.dim, llm_dim=llm.dim)
    weights = llm.num_weights * BYTES[config.model.llm.dtype] + 4 * mapper
    return weights / 1e9 + clap_shape(config.model.clap).weights_gb


def fits(capacity: Capacity, gpu: GPU) -> bool:
    """Whether a card holds the model and a batch."""
    return capacity.gpu_memory_gb <= gpu.memory_gb * (1 - RESERVED)


def clips_per_batch(config: RunConfig, work: Workload) -> int:
    """Return the clips of a full batch: ``min(batch_size, ceil(BATCH_BYTES / (4 SAMPLE_RATE seconds)))``."""
    size = _window_seconds(config)
    seconds = min(work.seconds_per_clip, size or math.inf)
    return min(config.caption.batch_size, math.ceil(BATCH_BYTES / (4 * SAMPLE_RATE * seconds)))


def driver_clips_per_s(batch_size: int, clips: int = 1) -> float:
    """Return the objects a second that one driver can hand out: ``batches/s * batch_size / clips``.

    Args:
        batch_size: Clips of a batch.
        clips: Clips of one object.
    """
    return DRIVER_BATCHES_PER_SECOND * batch_size / clips


def decode_seconds(work: Workload) -> tuple[float, float]:
    """Return the CPU seconds of an object's decoder, and those it waits for storage.

    ``seconds / DECODE_SPEED + GETs * GET_CPU_SECONDS`` and ``GETs * GET_WAIT_SECONDS``.
    """
    gets = gets_of(work)
    return work.seconds_per_clip / DECODE_SPEED + gets * GET_CPU_SECONDS, gets * GET_WAIT_SECONDS


def gets_of(work: Workload) -> int:
    """Return the requests for one object, read in ranges: ``ceil(bytes / CHUNK_BYTES)``, at least 1."""
    return max(1, math.ceil(work.object_bytes / CHUNK_BYTES))


def job_requests(work: Workload, writes: int, hours: float) -> S3Requests:
    """Return the requests of a job that is not interrupted.

    LIST: ``num_lists``. GET: ``objects * gets_of``. PUT: ``num_writes``, the summary, the lock's heartbeats.
    No HEAD, as size and etag come with the listing. Retries are not counted.
    """
    beats = math.ceil(3_600 * hours / HEARTBEAT_SECONDS)
    return S3Requests(
        lists=num_lists(work.num_objects), gets=work.num_objects * gets_of(work), puts=writes + 1 + beats
    )


def num_lists(num_objects: int) -> int:
    """Return the requests that list a bucket: ``ceil(objects / 1,000)``, at least 1."""
    return max(1, math.ceil(num_objects / KEYS_PER_LIST))


def num_parts(rows: int, part_rows: int) -> int:
    """Return the parts of an output: ``ceil(rows / part_rows)``."""
    return math.ceil(rows / part_rows)


def num_writes(rows: int, seconds: float, part_rows: int) -> int:
    """Return how often a part is written, full or not: every ``min(wait, part_rows / rate)`` seconds.

    The wait is 5 s, after 500 s a hundredth of the time so far, until ``part_rows`` rows come sooner than
    that: ``T / 5``, then ``100 ln(t / 500)``, then ``rows / part_rows``.
    """
    if not rows:
        return 0
    full = part_rows * seconds / rows
    if full <= FIRST_FLUSH_SECONDS:
        return num_parts(rows, part_rows)
    turn = FIRST_FLUSH_SECONDS / FLUSH_FRACTION
    early = min(seconds, turn) / FIRST_FLUSH_SECONDS
    middle = min(seconds, full / FLUSH_FRACTION)
    growing = math.log(middle / turn) / FLUSH_FRACTION if middle > turn else 0.0
    return math.ceil(early + growing + max(0.0, seconds - max(middle, turn)) / full)


def decoded_gb(config: RunConfig, work: Workload) -> float:
    """Return the decoded sound that goes from decoders to models: ``4 SAMPLE_RATE seconds objects`` bytes.

    Windows that overlap are counted in full: ``clips * window`` seconds, at least those of the object.
    """
    caption, seconds = config.caption, work.seconds_per_clip
    if caption.window is not None and caption.hop is not None:
        size = _window_seconds(config)
        seconds = max(seconds, counts_of(config, work).clips * min(size or math.inf, seconds))
    return 4 * SAMPLE_RATE * seconds * work.num_objects / 1e9


def driver_mb(rows: int, part_rows: int) -> float:
    """Return the memory of the driver, which does not grow with the objects once there are some 100,000.

    ``base + min(rows, part_rows) in Arrow + 3 blocks of the listing``.
    """
    waiting = min(rows, part_rows) * ROW_MEMORY_BYTES
    listed = 3 * min(rows, LISTED_BLOCK_ROWS) * KEY_BYTES
    return DRIVER_BASE_MB + (waiting + listed) / 1e6


def resume_requests(work: Workload, parts: int) -> S3Requests:
    """Return the requests of a resumed job: it lists the bucket again and reads the keys of all parts."""
    return S3Requests(lists=num_lists(work.num_objects), gets=GETS_PER_PART * parts)
