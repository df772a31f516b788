"""Planned and measured numbers side by side; a machine without a GPU is described by measurement."""

import pytest
import torch

from mats_ray.config import load_config
from mats_ray.rehearsal.comparison import Comparison, clips_per_second, this_accelerator


@pytest.mark.parametrize(
    ("planned", "measured", "close"),
    [(1.0, 1.0, True), (1.19, 1.0, True), (1.3, 1.0, False), (0.7, 1.0, False)],
)
def test_a_plan_is_close_within_twenty_per_cent(planned, measured, close):
    one = Comparison(stage="train", quantity="GB", planned=planned, measured=measured)

    assert one.is_close is close
    assert one.ratio == pytest.approx(planned / measured)


def test_nothing_measured_is_not_close():
    assert not Comparison(stage="train", quantity="GB", planned=1.0, measured=0.0).is_close


@pytest.mark.parametrize(("seconds", "rate"), [({"answer": 4.0}, 2.0), ({"answer": 4.0, "encode": 4.0}, 1.0)])
def test_clips_are_counted_per_second_of_their_models(seconds, rate):
    summary = {"written": 8, "stage_seconds": {"list": 1.0, "decode": 9.0, "write": 1.0} | seconds}

    assert clips_per_second(summary) == rate


def test_this_machine_has_operations_bandwidth_and_memory():
    config = load_config("configs/mats_llama_7b.yaml")

    machine = this_accelerator(config.replace(scaling={"use_gpu": False}), rows=2, dtype=torch.bfloat16)

    assert machine.memory_gb > 1
    assert machine.bf16_flops > 1e8
    assert machine.bandwidth > 1e8
    assert machine.dollars_per_hour == 0
