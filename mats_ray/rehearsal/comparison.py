"""What ``mats plan`` says of a rehearsal's configuration on this machine, beside what was measured."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from mats_ray.caption.capacity import answering_gb, model_weights_gb
from mats_ray.caption.clap_shape import clap_shape
from mats_ray.caption.gpu_time import (
    AnswerShape,
    Speed,
    answer_seconds,
    mapper_flops,
)
from mats_ray.caption.output import SUMMARY
from mats_ray.config import RunConfig
from mats_ray.config.generation import PROFILES
from mats_ray.config.run import join
from mats_ray.rehearsal.rows import NUM_CLIPS, NUM_TRIPLETS
from mats_ray.rehearsal.stages import StageResult, size_of
from mats_ray.train.activation_memory import unfused_attention_bytes
from mats_ray.train.checkpoints import open_store
from mats_ray.train.metrics import timed
from mats_ray.train.metrics_logger import read_records
from mats_ray.train.plan import BYTES, GPU, RESERVED, Assumptions, Plan, make_plan, sample_gb, shape_of

TOLERANCE = 0.20
"""Share of the measured value by which a planned one may differ."""
PRODUCT_SHARE = 0.8
"""Share of training and answering that matrix products are: of a training step on a CPU 0.78 (GPT-2) to 0.90
(two layers of LLaMA), of a step of four beams 0.8, without what it moves of the cache."""
PROMPT_TOKENS = 48
"""Tokens of the caption instruction and its frame, by the stand-ins' tokenizers."""
START_TOKENS = 13
"""Those of them before the audio; every row attends to them."""
PROCESS_GB = 0.9
"""Memory of a process with torch, transformers, Ray and DeepSpeed before it loads a model."""
WORKER, ASK = "RayTrainWorker", "ask"
_COPIED_BYTES = 2**28


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One number of the plan beside its measurement."""

    stage: str
    quantity: str
    """With its unit."""
    planned: float
    measured: float

    @property
    def ratio(self) -> float:
        """Planned over measured."""
        return self.planned / self.measured if self.measured else float("inf")

    @property
    def is_close(self) -> bool:
        """Whether the plan is within the tolerance."""
        return abs(self.ratio - 1) <= TOLERANCE


def this_accelerator(config: RunConfig, *, rows: int, dtype: torch.dtype) -> GPU:
    """Describe this machine as the plan does a GPU: the share of one process.

    Operations are those of products of so many rows with a weight of the language model, and bandwidth that
    of a copy: what a maker prints of a card is not known of a CPU, and its speed depends on the shape.

    Args:
        config: As rehearsed.
        rows: Tokens that are multiplied at a time.
        dtype: Precision of the language model's products.
    """
    device, llm = "cuda" if config.scaling.use_gpu else "cpu", shape_of(config)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.scaling.threads_per_worker)
    try:
        speed, fp32 = (
            _product_flops(rows, llm.dim, llm.mlp_dim, device=device, dtype=one)
            for one in (dtype, torch.float32)
        )
        bandwidth = _bandwidth(device)
    finally:
        torch.set_num_threads(threads)
    memory = (
        torch.cuda.get_device_properties(0).total_memory
        if device == "cuda"
        else psutil.virtual_memory().total
    )
    return GPU(
        memory_gb=memory / 1e9, bf16_flops=speed, bandwidth=bandwidth, dollars_per_hour=0.0, fp32_flops=fp32
    )


def _product_flops(rows: int, width: int, wider: int, *, device: str, dtype: torch.dtype) -> float:
    """Measure the operations a second of a layer's product, and of the one for the gradient of its input."""
    inputs, weight = torch.ones(rows, width), torch.ones(wider, width)
    inputs, weight = (one.to(device=device, dtype=dtype) for one in (inputs, weight))
    outputs = inputs @ weight.T
    seconds = _seconds(lambda: inputs @ weight.T, device) + _seconds(lambda: outputs @ weight, device)
    return 4 * rows * width * wider / seconds


def _bandwidth(device: str) -> float:
    """Measure the bytes a second that a copy reads and writes."""
    values = torch.ones(_COPIED_BYTES // 4, device=device)
    copy = torch.ones_like(values)
    return 2 * _COPIED_BYTES / _seconds(lambda: copy.copy_(values), device)


def _seconds(function: Callable[[], object], device: str) -> float:
    """Return the median time of a few calls, after one that is not counted."""
    return median([timed(function, device) for _ in range(6)][1:])


def compare(config: RunConfig, results: Sequence[StageResult]) -> list[Comparison]:
    """Set each number of the plan beside its measurement.

    Args:
        config: As rehearsed.
        results: Measurements of the stages.
    """
    by_name, rates = {one.name: one for one in results}, Rates.of(config)
    is_half = config.train.engine.precision == "bf16"
    tokens = config.train.micro_batch_size * (config.model.mapper.prefix_length + rates.text_tokens)
    gpu = this_accelerator(config, rows=tokens, dtype=torch.bfloat16 if is_half else torch.float32)
    given = Assumptions(
        gpu=gpu,
        num_gpus=config.scaling.max_workers,
        text_tokens=rates.text_tokens,
        num_triplets=NUM_TRIPLETS,
        mfu=PRODUCT_SHARE,
    )
    plan = make_plan(config, shape_of(config), given)
    trained = [by_name[name] for name in ("train until killed", "train resumed")]
    pairs = [
        ("stand-ins", "language model on disk, GB", plan.host_gb, _weights_gb(config)),
        ("embed", "embedded triplets, GB", plan.embedded_gb, by_name["embed"].disk_bytes / 1e9),
        ("train", "checkpoint, GB", plan.checkpoint_gb, _checkpoint_gb(config)),
        ("train", *worker_memory(config, plan, rates, trained)),
        ("train", "samples a second", plan.samples_per_s, rates.samples_per_s),
        *_captioning(config, by_name),
    ]
    return [Comparison(stage=a, quantity=b, planned=c, measured=d) for a, b, c, d in pairs]


def compare_asking(config: RunConfig, results: Sequence[StageResult]) -> list[Comparison]:
    """Compare what one question needs: the language model on disk and, without a GPU, in memory."""
    (result,) = (one for one in results if one.name == ASK)
    llm = shape_of(config)
    planned = BYTES[config.model.llm.dtype] * llm.num_weights / 1e9
    pairs = [("stand-ins", "language model on disk, GB", planned, _weights_gb(config))]
    if not config.serve.answerer.gpus:  # a GPU's memory is not measured from outside
        needed_gb = model_weights_gb(config, llm) + PROCESS_GB
        pairs.append((ASK, "memory of the process, GB", needed_gb, result.total_gb))
    return [Comparison(stage=a, quantity=b, planned=c, measured=d) for a, b, c, d in pairs]


@dataclass(frozen=True, slots=True)
class Rates:
    """Medians over the records of the run, and its highest memory."""

    samples_per_s: float
    text_tokens: int
    """Text tokens per sample, an input of the plan."""
    peak_memory_gb: float
    """As workers record it: of a GPU what was allocated on it."""

    @classmethod
    def of(cls, config: RunConfig) -> "Rates":
        """Read them."""
        records = read_records(join(config.run_dir, "metrics.jsonl")).values()
        timed = [one for one in records if "samples_per_s" in one]
        tokens = median(one["tokens_per_s"] / one["samples_per_s"] for one in timed)
        rate = median(one["samples_per_s"] for one in timed)
        return cls(rate, round(tokens), max(one["peak_memory_gb"] for one in timed))


def _weights_gb(config: RunConfig) -> float:
    return sum(size_of(file) for file in Path(config.llm_path).glob("*.safetensors")) / 1e9


def _checkpoint_gb(config: RunConfig) -> float:
    """Return the size of the last checkpoint, without the model directory that a finished run's holds."""
    folder = Path(open_store(config).committed()[-1].path)
    return sum(size_of(file) for file in folder.iterdir() if file.is_file()) / 1e9


def worker_memory(
    config: RunConfig, plan: Plan, rates: Rates, trained: Sequence[StageResult]
) -> tuple[str, float, float]:
    """Return the memory of a worker at the configured micro-batch: what of it, planned, measured.

    Of a GPU it is what the worker has allocated there. Without one it is that of its process, filled as a
    card is, with its program; a checkpoint is gathered there, too, after activations are gone.
    """
    own_gb, micro_batch = plan.frozen_gb + plan.trained_gb, config.train.micro_batch_size
    if config.scaling.use_gpu:
        planned_gb = own_gb + micro_batch * plan.gb_per_sample
        return "GPU memory of a worker, GB", planned_gb, rates.peak_memory_gb
    passing_gb = max(micro_batch * _sample_gb_on_a_cpu(config, rates.text_tokens), plan.checkpoint_gb)
    planned_gb = (own_gb + passing_gb) / (1 - RESERVED) + PROCESS_GB
    return "memory of a worker, GB", planned_gb, max(one.peak_gb(WORKER) for one in trained)


def _sample_gb_on_a_cpu(config: RunConfig, text_tokens: int) -> float:
    """Return the activations of a sample where dropout has wide masks, and attention with it is not fused."""
    llm, width = shape_of(config), config.train.engine.number_bytes
    found = sample_gb(config, llm, text_tokens, mask_bytes=width)
    if _drops_attention(config):
        row_tokens = START_TOKENS + config.model.mapper.prefix_length + text_tokens
        found += unfused_attention_bytes(llm, row_tokens=row_tokens, width=width) / 1e9
    return found


def _drops_attention(config: RunConfig) -> bool:
    tree: Any = json.loads(Path(config.llm_path, "config.json").read_text("utf-8"))
    return bool(tree.get("attn_pdrop") or tree.get("attention_dropout"))


def _captioning(config: RunConfig, by_name: Mapping[str, StageResult]) -> list[tuple[str, str, float, float]]:
    """Compare captioning: with random weights no answer ends before ``max_new_tokens``."""
    llm, mapper, dtype = shape_of(config), config.model.mapper, config.model.llm.dtype
    shape = AnswerShape(
        prompt_tokens=mapper.prefix_length + PROMPT_TOKENS,
        answer_tokens=config.generation.max_new_tokens,
        num_beams=PROFILES[config.generation.profile].num_beams,
        batch_size=min(NUM_CLIPS, config.caption.batch_size),
    )
    sequences, width = shape.batch_size * shape.num_beams, BYTES[dtype]
    gpu = this_accelerator(config, rows=sequences, dtype=getattr(torch, dtype))
    speed = Speed(flops=gpu.bf16_flops * PRODUCT_SHARE, bandwidth=gpu.bandwidth)
    operations = mapper_flops(mapper, clap_dim=config.model.clap.dim, llm_dim=llm.dim)
    planned_s = clap_shape(config.clap).flops / (gpu.fp32_flops * PRODUCT_SHARE)
    planned_s += operations / speed.flops + answer_seconds(llm, shape, width, speed)
    rate = clips_per_second(json.loads(Path(config.output_dir, "captions", SUMMARY).read_text("utf-8")))
    return [("caption", "clips a second", 1 / planned_s, rate), *captioning_memory(config, shape, by_name)]


def captioning_memory(
    config: RunConfig, shape: AnswerShape, by_name: Mapping[str, StageResult]
) -> list[tuple[str, str, float, float]]:
    """Compare the memory of the process that answers; the job records none of a GPU's."""
    if config.caption.gpus_per_actor:
        return []
    positions = shape.batch_size * shape.num_beams * (shape.prompt_tokens + shape.answer_tokens)
    planned_gb = answering_gb(config, shape_of(config), positions) + PROCESS_GB
    measured_gb = by_name["caption"].peak_gb("MapWorker")
    return [("caption", "memory of the model's process, GB", planned_gb, measured_gb)]


def clips_per_second(summary: Mapping[str, Any]) -> float:
    """Return the rate of a captioning job's models by its summary.

    The stage that answers encodes, too, except where embeddings are kept, which a stage of their own makes.
    """
    seconds = summary["stage_seconds"]
    return summary["written"] / (seconds["answer"] + seconds.get("encode", 0.0))
