"""Seconds that one GPU works on an answer, by arithmetic from shapes: the mapper, prompt and answer.

A multiply-add counts as two operations. The mapper and the prompt are bound by operations. Each step of
an answer reads all weights for its matrix products, which are bound by operations or by memory traffic,
whichever takes longer (Williams et al. 2009, "roofline"); then it moves keys and values. What share of both a
card reaches is assumed.
"""

from dataclasses import dataclass

from mats_ray.config.model import MapperConfig
from mats_ray.train.flops import LLMShape, mapper_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerShape:
    """Sizes of one answer.

    Attributes:
        prompt_tokens: Positions before the answer: prefix vectors, template and instruction.
        answer_tokens: Tokens generated.
        num_beams: Sequences per answer.
        batch_size: Answers generated together.
    """

    prompt_tokens: int
    answer_tokens: int
    num_beams: int
    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a card reaches: operations and bytes a second."""

    flops: float
    bandwidth: float


def prompt_flops(llm: LLMShape, positions: int) -> float:
    """Count the operations of reading a prompt once.

    Two per weight and position, attention's two products over half a square, the output layer at the last
    position: ``2 W P + 2 L width P^2 + 2 V dim``.
    """
    width = llm.num_heads * llm.head_dim
    attention = 2 * llm.num_layers * width * positions**2
    return 2 * llm.layer_weights * positions + attention + 2 * llm.vocab_size * llm.dim


def token_flops(llm: LLMShape, positions: float) -> float:
    """Count the operations of one more token behind some positions: ``2 W + 4 L width S + 2 V dim``."""
    attention = 4 * llm.num_layers * llm.num_heads * llm.head_dim * positions
    return 2 * llm.layer_weights + attention + 2 * llm.vocab_size * llm.dim


def cache_bytes(llm: LLMShape, weight_bytes: int) -> int:
    """Count the bytes of keys and values of one position: ``2 L kv_heads head_dim`` numbers."""
    return 2 * llm.num_layers * llm.num_kv_heads * llm.head_dim * weight_bytes


def mapper_flops(mapper: MapperConfig, *, clap_dim: int, llm_dim: int) -> float:
    """Count the operations of the mapper, forward: a third of those in training (``train.flops``)."""
    once, each = mapper_weights(mapper, clap_dim=clap_dim, llm_dim=llm_dim)
    if mapper.type == "mlp":
        return 2 * once
    positions = mapper.content_length + mapper.prefix_length
    return 2 * (once + each * positions) + 4 * mapper.num_layers * mapper.hidden_dim * positions**2


def answer_seconds(llm: LLMShape, answer: AnswerShape, weight_bytes: int, speed: Speed) -> float:
    """Return the seconds of a GPU per answer, prompt included.

    ``prompt / flops + T / b * (max(b beams token / flops, weights / bandwidth) + b beams S c cache /
    bandwidth)`` with T tokens, b answers at a time, S the mean length of a sequence. A prompt is read once,
    not once per beam. Keys and values are read once (c = 1), and by a beam search copied, too: c = 3.
    """
    length = answer.prompt_tokens + answer.answer_tokens / 2
    sequences = answer.batch_size * answer.num_beams
    computed = sequences * token_flops(llm, length) / speed.flops
    read = (llm.layer_weights + llm.vocab_size * llm.dim) * weight_bytes / speed.bandwidth
    passes = 1 if answer.num_beams == 1 else 3
    moved = sequences * length * passes * cache_bytes(llm, weight_bytes) / speed.bandwidth
    step = max(computed, read) + moved
    return (
        prompt_flops(llm, answer.prompt_tokens) / speed.flops
        + answer.answer_tokens * step / answer.batch_size
    )
