"""Planned resources of a run on given GPUs, by arithmetic: memory, hours, storage, cost.

Counts follow from shapes and are exact to some per cent; the share of a card's peak that training reaches is
an assumption, and is printed as such.
"""

import json
import math
from dataclasses import astuple, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mats_ray.config import RunConfig
from mats_ray.errors import ConfigError, ModelError
from mats_ray.train.activation_memory import language_model_bytes, logits_bytes, mapper_bytes
from mats_ray.train.flops import KNOWN_SHAPES, LLMShape, TrainingFlops, llm_shape, num_mapper_parameters

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
RESERVED = 0.10
"""Share of a card's memory: the CUDA context, buffers of communication, fragmentation."""
ANSWER_SHARE = 0.3
"""Share of text tokens that carry loss and have logits; AudioCaps-like captions behind their instruction."""
ROW_BYTES_BESIDES = 100
"""Bytes of an embedded triplet's texts and ids on disk, compressed; the embedding comes on top. The published
files of AudioCaps take 62, of Clotho 98, of MusicCaps 269 and of WavCaps' SoundBible 48."""

GPT2_NAMES = {"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers"}
TIED_UNLESS_WRITTEN = {"gpt2", "gemma", "gemma2", "gemma3_text"}
"""Types of models whose output layer is their embedding where ``config.json`` does not say."""


@dataclass(frozen=True, slots=True)
class GPU:
    """One accelerator, as its maker describes it."""

    memory_gb: float
    """10^9 bytes."""
    bf16_flops: float
    """Per second, dense, as printed by the maker: nothing reaches it."""
    bandwidth: float
    """Bytes a second between the card and its memory, as printed by the maker."""
    dollars_per_hour: float
    """Rented on demand, see ``PRICES_FROM``; ``--price`` overrides it."""
    fp32_flops: float
    """Per second, without tensor cores, as printed by the maker: CLAP computes so."""


PRICES_FROM = "a rounded price of large clouds on demand, 2025"
"""Source and date of the prices in ``GPUS``: estimates of our own, no provider's list."""
GPUS = {
    "a10g": GPU(24e0, 125e12, 0.6e12, 1.0, 31e12),
    "l4": GPU(24e0, 121e12, 0.3e12, 0.8, 30e12),
    "l40s": GPU(48e0, 362e12, 0.864e12, 1.9, 91e12),
    "a100-40": GPU(40e0, 312e12, 1.555e12, 3.0, 19.5e12),
    "a100-80": GPU(80e0, 312e12, 2.039e12, 4.0, 19.5e12),
    "h100-80": GPU(80e0, 989e12, 3.35e12, 7.0, 67e12),
    "h200-141": GPU(141e0, 989e12, 4.8e12, 8.0, 67e12),
    "b200-192": GPU(192e0, 2250e12, 8.0e12, 12.0, 75e12),
}
"""Accelerators by their name on the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """Inputs of a plan that the configuration does not contain."""

    gpu: GPU
    num_gpus: int = 1
    text_tokens: int = 100
    """Number of tokens of instruction and answer per sample, without the audio prefix."""
    mfu: float = 0.40
    """Share of the card's peak that useful operations reach."""
    num_triplets: int = 5_300_000
    dollars_per_hour: float | None = None
    """Per GPU; the card's own when absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The result; memory in 10^9 bytes."""

    frozen_gb: float
    trained_gb: float
    """Trained weights, gradients, fp32 copies and Adam moments of one worker."""
    gb_per_sample: float
    samples_that_fit: int
    """Number of samples of one forward pass, in the memory of one GPU; 0: not even one sample fits."""
    samples_per_gpu: int
    """Number of samples of the global batch that each GPU has."""
    micro_batch_size: int
    """Largest size that fits and divides the samples per GPU; 0: not even one sample fits."""
    memory_gb: float
    """Per GPU at that micro-batch."""
    trained_parameters: int
    samples_per_s: float
    hours: float
    checkpoint_gb: float
    embedded_gb: float
    """Embedded triplets."""
    storage_gb: float
    """These and the checkpoints that are kept."""
    dollars: float
    host_gb: float
    """Host memory of one worker while it loads the language model, which every worker reads whole."""


def shape_of(config: RunConfig) -> LLMShape:
    """Read the language model's shape from its ``config.json`` if it is a folder, or from a table of names.

    Raises:
        ModelError: It is neither, or the file does not hold a shape.
    """
    path = config.llm_path
    if Path(path).expanduser().is_dir():
        return _read_shape(Path(path).expanduser() / "config.json")
    name = path.rsplit("/", 1)[-1].lower()
    for known, shape in KNOWN_SHAPES.items():
        if name.startswith(known):
            return shape
    raise ModelError(
        f"the shape of the language model {path!r} is not known here: it is no folder, and none of "
        f"{', '.join(KNOWN_SHAPES)}"
    )


def _read_shape(path: Path) -> LLMShape:
    """Read ``config.json`` itself: transformers would take seconds."""
    faults = OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError
    try:
        tree: dict[str, Any] = json.loads(path.read_text("utf-8"))
        tied = tree["model_type"] in TIED_UNLESS_WRITTEN
        named: dict[str, Any] = {"tie_word_embeddings": tied, "n_inner": None}
        named |= {GPT2_NAMES.get(name, name): value for name, value in tree.items()}
        shape = llm_shape(SimpleNamespace(**named))
    except faults as error:
        raise ModelError(f"no shape of a language model can be read from {path}: {error!r}") from error
    if not all(isinstance(size, int) and (size is False or 0 < size < 2**31) for size in astuple(shape)):
        raise ModelError(f"no shape of a language model can be read from {path}: it holds {shape}")
    return shape


def make_plan(config: RunConfig, shape: LLMShape, given: Assumptions) -> Plan:
    """Compute what a run needs.

    Raises:
        ConfigError: The global batch cannot be split over so many GPUs.
    """
    train, mapper = config.train, config.model.mapper
    share = _samples_per_gpu(train.global_batch_size, given.num_gpus)
    lora = config.model.llm.adapters
    mapper_size = num_mapper_parameters(mapper, clap_dim=config.model.clap.dim, llm_dim=shape.dim)
    trained = mapper_size + (shape.lora_weights(lora) if lora else shape.num_weights)
    frozen_gb, trained_gb = _weights_gb(config, shape, trained, frozen=bool(lora), num_gpus=given.num_gpus)
    per_sample = sample_gb(config, shape, given.text_tokens)
    room = given.gpu.memory_gb * (1 - RESERVED) - frozen_gb - trained_gb
    that_fit = max(0, math.floor(room / per_sample))
    micro_batch = _largest_divisor(share, at_most=that_fit)

    each = _sample_flops(config, shape, given.text_tokens)
    samples_per_s = given.num_gpus * given.gpu.bf16_flops * given.mfu / each
    hours = train.num_steps * train.global_batch_size / samples_per_s / 3600
    checkpoint_gb = 12 * trained / 1e9  # weight and two moments in float32
    rows = given.num_triplets * (2 * config.model.clap.dim + ROW_BYTES_BESIDES) / 1e9
    price = given.gpu.dollars_per_hour if given.dollars_per_hour is None else given.dollars_per_hour
    return Plan(
        frozen_gb=frozen_gb,
        trained_gb=trained_gb,
        gb_per_sample=per_sample,
        samples_that_fit=that_fit,
        samples_per_gpu=share,
        micro_batch_size=micro_batch,
        memory_gb=frozen_gb + trained_gb + micro_batch * per_sample,
        trained_parameters=trained,
        samples_per_s=samples_per_s,
        hours=hours,
        checkpoint_gb=checkpoint_gb,
        embedded_gb=rows,
        storage_gb=rows + (train.checkpoint.keep + 1) * checkpoint_gb,
        dollars=hours * given.num_gpus * price,
        host_gb=BYTES[config.model.llm.dtype] * shape.num_weights / 1e9,
    )


def _samples_per_gpu(global_batch_size: int, num_gpus: int) -> int:
    if global_batch_size % num_gpus:
        raise ConfigError(f"train.global_batch_size={global_batch_size} is not a multiple of {num_gpus} GPUs")
    return global_batch_size // num_gpus


def _largest_divisor(number: int, *, at_most: int) -> int:
    return max((size for size in range(1, min(number, at_most) + 1) if number % size == 0), default=0)


def _weights_gb(
    config: RunConfig, shape: LLMShape, trained: int, *, frozen: bool, num_gpus: int
) -> tuple[float, float]:
    """Return frozen and trained memory of one worker, partitioned by ZeRO stage."""
    engine = config.train.engine
    width = engine.number_bytes
    split = [num_gpus if engine.zero_stage >= stage else 1 for stage in (1, 2, 3)]
    weights = width * trained / split[2]
    gradients = width * trained / split[1]
    optimizer = (12 if engine.precision == "bf16" else 8) * trained / split[0]
    base = width * shape.num_weights / split[2] if frozen else 0
    return base / 1e9, (weights + gradients + optimizer) / 1e9


def _sample_flops(config: RunConfig, shape: LLMShape, text_tokens: int) -> float:
    flops = TrainingFlops(shape, config.model.mapper, config.model.clap.dim, config.model.llm.adapters)
    answers = max(1, round(ANSWER_SHARE * text_tokens))
    return flops.count(samples=1, text_tokens=text_tokens, answer_tokens=answers)


def sample_gb(config: RunConfig, shape: LLMShape, text_tokens: int, *, mask_bytes: int = 1) -> float:
    """Return the activations of one sample that backward needs, and its logits.

    Args:
        config: Of the run.
        shape: Of its language model.
        text_tokens: Number of tokens without the audio prefix.
        mask_bytes: Per element of a dropout mask: 1 on a GPU, those of a number on a CPU.
    """
    width, mapper = config.train.engine.number_bytes, config.model.mapper
    tokens, lora = text_tokens + mapper.prefix_length, config.model.llm.adapters
    llm = language_model_bytes(shape, lora, tokens=tokens, width=width, mask_bytes=mask_bytes)
    logits = logits_bytes(shape, tokens=ANSWER_SHARE * text_tokens, width=width)
    return (llm + mapper_bytes(mapper, width=width) + logits) / 1e9
