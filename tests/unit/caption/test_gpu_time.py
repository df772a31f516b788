"""Seconds of a GPU per clip against sums done by hand on a small shape."""

from dataclasses import replace

import pytest

from mats_ray.caption.gpu_time import (
    AnswerShape,
    Speed,
    answer_seconds,
    cache_bytes,
    mapper_flops,
    prompt_flops,
    token_flops,
)
from mats_ray.config.model import MapperConfig
from mats_ray.train.flops import KNOWN_SHAPES, LLMShape, TrainingFlops

TINY = LLMShape(8, 2, 2, 1, 4, 16, 3, 100, tied=False)
"""Weights of a layer: attention 2 x 8 x 8 + 2 x 8 x 1 x 4 = 192, MLP 3 x 8 x 16 = 384; two layers 1,152."""
LLAMA = KNOWN_SHAPES["llama-7b"]


def test_a_prompt_is_its_weights_its_attention_and_one_output():
    """2 x 1,152 x 10 + 2 x 2 x 8 x 100 + 2 x 100 x 8 = 23,040 + 3,200 + 1,600."""
    assert prompt_flops(TINY, 10) == 27_840


def test_a_token_sees_all_positions_before_it():
    """2 x 1,152 + 4 x 2 x 8 x 10 + 2 x 100 x 8 = 2,304 + 640 + 1,600."""
    assert token_flops(TINY, 10) == 4_544


def test_the_cache_has_keys_and_values_of_the_shared_heads():
    """2 x 2 layers x 1 head x 4 numbers x 2 bytes."""
    assert cache_bytes(TINY, 2) == 32
    assert cache_bytes(LLAMA, 2) == 524_288  # half a megabyte a position


def test_the_mapper_forward_is_a_third_of_its_training():
    """A language model without weights leaves the mapper's operations alone."""
    nothing = LLMShape(0, 0, 0, 0, 0, 0, 0, 0, tied=True)
    for mapper in (MapperConfig(), MapperConfig(type="mlp")):
        whole = TrainingFlops(nothing, mapper, 1_024, None).count(samples=1, text_tokens=1, answer_tokens=0)
        assert mapper_flops(mapper, clap_dim=1_024, llm_dim=0) == pytest.approx(whole / 3)


ANSWER = AnswerShape(prompt_tokens=10, answer_tokens=4, num_beams=2, batch_size=3)
"""Six sequences of 12 positions on average."""


def test_an_answer_that_is_bound_by_operations():
    """27,840 + 4 / 3 x 6 x token_flops(12) = 27,840 + 8 x 4,672, at one operation a second."""
    found = answer_seconds(TINY, ANSWER, 2, Speed(flops=1.0, bandwidth=1e30))

    assert found == pytest.approx(27_840 + 8 * 4_672)


def test_an_answer_that_is_bound_by_memory():
    """A step reads (1,152 + 800) x 2 bytes and moves 6 x 12 x 32 three times: 10,816; 4 steps for 3."""
    found = answer_seconds(TINY, ANSWER, 2, Speed(flops=1e30, bandwidth=1.0))

    assert found == pytest.approx(4 / 3 * 10_816)


def test_an_answer_without_beams_only_reads_keys_and_values():
    """A step reads (1,152 + 800) x 2 and 3 x 12 x 32 bytes; 4 steps for 3 answers."""
    greedy = replace(ANSWER, num_beams=1)

    found = answer_seconds(TINY, greedy, 2, Speed(flops=1e30, bandwidth=1.0))

    assert found == pytest.approx(4 / 3 * 5_056)


def test_the_cache_is_moved_after_the_products():
    """8 x 4,672 / 4 seconds of operations, and 4 / 3 x 6,912 bytes at two a second."""
    found = answer_seconds(TINY, ANSWER, 2, Speed(flops=4.0, bandwidth=2.0))

    assert found == pytest.approx((27_840 + 8 * 4_672) / 4 + 4 / 3 * 6_912 / 2)


def test_a_larger_batch_shares_the_weights():
    """Per answer, bound by memory: the weights' part falls with the batch, the cache's part stays."""
    slow = Speed(flops=1e30, bandwidth=1.0)
    one, many = (
        answer_seconds(
            TINY, AnswerShape(prompt_tokens=10, answer_tokens=4, num_beams=2, batch_size=b), 2, slow
        )
        for b in (1, 1_000)
    )

    assert one - many == pytest.approx(4 * 1_952 * 2 * (1 - 1 / 1_000))
