"""Planned and measured numbers side by side; a machine without a GPU is described by measurement."""

import json
from pathlib import Path

import pytest
import torch

from mats_ray.caption.gpu_time import AnswerShape
from mats_ray.config import load_config
from mats_ray.rehearsal import comparison
from mats_ray.rehearsal.comparison import (
    ASK,
    PROCESS_GB,
    WORKER,
    Comparison,
    Rates,
    captioning_memory,
    clips_per_second,
    compare_asking,
    this_accelerator,
    worker_memory,
)
from mats_ray.rehearsal.stages import StageResult
from mats_ray.train.plan import GPUS, RESERVED, Assumptions, make_plan, shape_of


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


def stage(name, **peaks):
    return StageResult(name=name, seconds=1.0, total_gb=7.0, peaks_gb=peaks, disk_bytes=0)


def test_on_a_gpu_a_workers_memory_is_what_it_allocated_there():
    config = load_config("configs/mats_llama_7b.yaml")
    plan = make_plan(config, shape_of(config), Assumptions(gpu=GPUS["h200-141"], num_gpus=8))

    what, planned, measured = worker_memory(
        config, plan, Rates(1.0, 100, 33.0), [stage("train", **{WORKER: 7.0})]
    )

    assert what == "GPU memory of a worker, GB"
    activations = config.train.micro_batch_size * plan.gb_per_sample
    assert planned == pytest.approx(plan.frozen_gb + plan.trained_gb + activations)
    assert measured == 33.0


def test_without_a_gpu_a_workers_memory_is_that_of_its_process(monkeypatch):
    config = load_config("configs/mats_llama_7b.yaml").replace(scaling={"use_gpu": False})
    plan = make_plan(config, shape_of(config), Assumptions(gpu=GPUS["h200-141"], num_gpus=8))
    monkeypatch.setattr(comparison, "_drops_attention", lambda config: False)
    trained = [stage("train", **{WORKER: 7.0}), stage("train", **{WORKER: 8.0})]

    what, planned, measured = worker_memory(config, plan, Rates(1.0, 100, 33.0), trained)

    assert what == "memory of a worker, GB"
    assert planned > (plan.frozen_gb + plan.trained_gb) / (1 - RESERVED) + PROCESS_GB
    assert measured == 8.0


def test_rates_have_the_highest_memory_of_the_records(tmp_path):
    config = load_config("configs/mats_gpt2.yaml").replace(output_dir=str(tmp_path))
    rows = [(1, 4.0, 40.0, 2.5), (2, 2.0, 24.0, 3.5), (3, 3.0, 33.0, 3.0)]
    names = ("step", "samples_per_s", "tokens_per_s", "peak_memory_gb")
    file = Path(config.run_dir, "metrics.jsonl")
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))

    assert Rates.of(config) == Rates(3.0, 11, 3.5)


@pytest.mark.parametrize(("gpus", "quantities"), [(0.5, 1), (0, 2)])
def test_what_a_question_takes_of_a_gpu_is_not_compared_with_the_hosts_memory(gpus, quantities):
    config = load_config("configs/mats_llama_7b.yaml").replace(serve={"answerer": {"gpus": gpus}})

    found = compare_asking(config, [stage(ASK)])

    assert [one.stage for one in found] == ["stand-ins", ASK][:quantities]


@pytest.mark.parametrize(("gpus", "quantities"), [(1.0, []), (0.0, ["memory of the model's process, GB"])])
def test_what_captioning_takes_of_a_gpu_is_not_compared_with_the_hosts_memory(gpus, quantities):
    config = load_config("configs/mats_llama_7b.yaml").replace(caption={"gpus_per_actor": gpus})
    shape = AnswerShape(prompt_tokens=80, answer_tokens=20, num_beams=4, batch_size=8)

    found = captioning_memory(config, shape, {"caption": stage("caption", MapWorker=9.0)})

    assert [one[1] for one in found] == quantities
