"""Only what a machine forces is changed, and each change is said."""

import pytest

from mats_ray.config import load_config
from mats_ray.config.base import merge
from mats_ray.rehearsal.changes import CPU_ANSWER_SECONDS, Inputs, Machine, changes_for, overlay

INPUTS = Inputs(
    clap="c", clap_tokenizer="t", llm="l", sources=[{"source": "clotho", "path": "p"}], output_dir="o"
)
LAPTOP = Machine(num_cores=2, num_gpus=0)
UNCHANGED = (
    "model.noise",
    "model.mapper",
    "model.llm.dtype",
    "model.llm.lora",
    "train.optim",
    "train.engine",
    "generation",
)


@pytest.fixture(params=["configs/mats_gpt2.yaml", "configs/mats_llama_7b.yaml"])
def config(request):
    return load_config(request.param)


def test_the_method_stays_as_shipped(config):
    keys = [change.key for change in changes_for(config, LAPTOP, INPUTS, num_steps=4)]

    assert not [key for key in keys if key.startswith(UNCHANGED)]
    assert not {"train.global_batch_size", "train.micro_batch_size"} & set(keys)


def test_a_changed_configuration_is_valid_and_is_what_is_listed(config):
    changes = changes_for(config, LAPTOP, INPUTS, num_steps=4)

    changed = type(config).model_validate(merge(config.model_dump(mode="json"), overlay(changes)))

    assert changed.scaling.num_workers == 2
    assert not changed.scaling.use_gpu
    assert changed.train.num_steps == 4
    assert changed.train.checkpoint.every_steps == 2
    assert "train.num_steps" in {change.key for change in changes}
    assert all(change.shipped != change.value for change in changes)


def test_on_gpus_workers_follow_their_number(config):
    machine = Machine(num_cores=64, num_gpus=1)

    changed = {change.key: change.value for change in changes_for(config, machine, INPUTS, num_steps=4)}

    assert changed["scaling.num_workers"] == 1
    assert "scaling.use_gpu" not in changed
    assert "data.embed.gpus_per_actor" not in changed


@pytest.mark.parametrize(("num_gpus", "share"), [(1, 0.5), (2, 1.0), (8, 1.0)])
def test_on_gpus_the_service_answers_on_them_within_the_shipped_time(config, num_gpus, share):
    changes = changes_for(config, Machine(num_cores=64, num_gpus=num_gpus), INPUTS, num_steps=4)

    serve = type(config).model_validate(merge(config.model_dump(mode="json"), overlay(changes))).serve

    assert (serve.encoder.gpus, serve.answerer.gpus) == (share, share)
    assert serve.request_timeout_seconds == config.serve.request_timeout_seconds


def test_without_a_gpu_the_service_has_time_to_answer_on_the_cpu(config):
    changes = changes_for(config, LAPTOP, INPUTS, num_steps=4)

    serve = type(config).model_validate(merge(config.model_dump(mode="json"), overlay(changes))).serve

    assert (serve.encoder.gpus, serve.answerer.gpus) == (0, 0)
    assert serve.request_timeout_seconds == CPU_ANSWER_SECONDS


def test_a_change_is_one_line():
    config = load_config("configs/mats_gpt2.yaml")
    lines = [str(change) for change in changes_for(config, LAPTOP, INPUTS, num_steps=4)]

    assert "train.num_steps: 90000 -> 4 (steps of a rehearsal)" in lines
    assert "data.prepare.sources: none -> 1 entries (rows in the published formats)" in lines
