"""The metrics of the steps since the last record, and the peak that MFU refers to."""

import pytest
import torch

from mats_ray.config.model import LoRAConfig, MapperConfig
from mats_ray.train.engine import StepResult
from mats_ray.train.flops import LLMShape, TrainingFlops
from mats_ray.train.metrics import IntervalTotals, MFUMeter, measured_peak, mfu_meter, peak_memory_gb
from tests.unit.train.small import fresh_engine, small_run


def test_the_loss_is_the_mean_over_answer_tokens_not_over_steps():
    totals = IntervalTotals()
    totals.add(StepResult(10.0, 5, 50, 1.0), 8, seconds=1.0, waited=0.25)
    totals.add(StepResult(2.0, 15, 70, 1.0), 8, seconds=3.0, waited=0.75)

    rates = totals.rates()
    assert 0.01 < rates.pop("peak_memory_gb") < 1000
    assert rates == {
        "loss": pytest.approx(12 / 20),
        "samples_per_s": pytest.approx(16 / 4),
        "tokens_per_s": pytest.approx(120 / 4),
        "data_wait_share": pytest.approx(1 / 4),
    }


def test_an_empty_window_divides_by_nothing():
    rates = IntervalTotals().rates()

    assert {rates[key] for key in ("loss", "samples_per_s", "tokens_per_s", "data_wait_share")} == {0}


def test_mfu_is_useful_operations_by_what_the_hardware_could_do():
    shape = LLMShape(8, 2, 2, 2, 4, 16, 3, 50, tied=False)
    flops = TrainingFlops(shape, MapperConfig(hidden_dim=8, prefix_length=2), 4, LoRAConfig())
    totals = IntervalTotals()
    totals.add(StepResult(10.0, 5, 50, 1.0), 8, seconds=2.0, waited=0.25)

    mfu = totals.rates(MFUMeter(flops, peak=1e9))["mfu"]

    assert mfu == pytest.approx(flops.count(samples=8, text_tokens=50, answer_tokens=5) / 2e9)


def test_a_peak_that_is_exceeded_is_measured_again():
    shape = LLMShape(8, 2, 2, 2, 4, 16, 3, 50, tied=False)
    flops = TrainingFlops(shape, MapperConfig(hidden_dim=8, prefix_length=2), 4, LoRAConfig())
    work = {"samples": 8, "text_tokens": 50, "answer_tokens": 5}
    done, measured = flops.count(**work), []
    meter = MFUMeter(flops, peak=done / 4, measure=lambda: measured.append(1) or 2 * done)

    found = [meter.mfu(**work, seconds=seconds) for seconds in (8.0, 2.0, 1.0)]

    assert found == [pytest.approx(0.5), pytest.approx(0.25), pytest.approx(0.5)]
    assert len(measured) == 1


def test_peak_memory_never_falls():
    before = peak_memory_gb()
    block = bytearray(300_000_000)
    grown = peak_memory_gb()
    del block

    assert grown >= before + 0.2 or before > 1
    assert peak_memory_gb() >= grown


def test_a_meter_counts_for_all_workers(llm_path):
    config = small_run(llm_path)
    model = fresh_engine(config).model

    meter = mfu_meter(config, model, device="cpu", num_workers=2)

    assert meter.peak > 1e8
    assert meter.flops.llm.dim == 32
    assert meter.flops.lora == config.model.llm.lora


def test_the_ceiling_is_that_of_a_computer():
    assert 1e8 < measured_peak("cpu", dtype=torch.float32, size=256) < 1e14
