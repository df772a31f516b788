"""Training on a real Ray Train with DeepSpeed: two workers, a kill, a resume, another number of workers."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import ray
from peft import PeftModel
from safetensors.torch import load_file

from mats_ray.data.audio import read_audio
from mats_ray.data.embedding import noise_variance
from mats_ray.data.embedding.noise_variance import training_variance
from mats_ray.errors import ConfigError, DataError, TrainingError
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.models.llm import load_llm
from mats_ray.storage import lock_folder
from mats_ray.toy.demo.testset import write_test_set
from mats_ray.train.inputs import with_noise_variance
from mats_ray.train.metrics_logger import read_records
from mats_ray.train.on_ray import train, variance_on_a_worker
from tests.runs import WAIT_SECONDS, losses, other_run, train_worker_pids
from tests.toy import tiny_config
from tests.unit.train.test_inputs import auto_run

pytestmark = pytest.mark.ray


def weights(result):
    files = sorted(Path(result.model).glob("*.safetensors"))
    return {f"{file.name}:{name}": t for file in files for name, t in load_file(file).items()}


class Killer(threading.Thread):
    """SIGKILL one training worker once the run has logged a step; remembers which step was the last seen."""

    def __init__(self, metrics, *, after):
        super().__init__()
        self.metrics, self.after, self.killed_at = metrics, after, None

    def run(self):
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            step, pids = max(read_records(self.metrics), default=0), train_worker_pids()
            if pids and step >= self.after:
                os.kill(pids[0], signal.SIGKILL)
                self.killed_at = step
                return
            threading.Event().wait(0.05)


def test_a_variance_of_auto_is_estimated_in_another_process(world, tmp_path, model_dir, monkeypatch):
    """The driver's node may be a head without memory for a CLAP."""
    config = auto_run(tmp_path, model_dir).replace(scaling=world.scaling.model_dump())
    expected = training_variance(config)
    monkeypatch.setattr(noise_variance, "build_clap", None)  # here; the task has a process of its own

    assert with_noise_variance(config, variance_on_a_worker).model.noise.variance == expected.value


def test_a_variance_of_auto_without_two_captions_of_a_clip_ends_in_one_line(world):
    config = other_run(world, "auto", model={"noise": {"variance": "auto"}})

    with pytest.raises(DataError, match="have no clip with two captions") as raised:
        train(config)

    assert "\n" not in str(raised.value)


def test_a_run_leaves_a_model_directory_that_answers(unbroken, tmp_path):
    result, config = unbroken

    pipeline = MATSPipeline.from_pretrained(result.model)
    clip = write_test_set(config, tmp_path)[0]

    assert sorted(losses(result.metrics)) == list(range(1, 61))
    answer = pipeline.caption(read_audio(clip.path))  # of so small a model it may be an empty one
    assert answer.num_tokens <= config.generation.max_new_tokens
    assert answer.finish_reason == (
        "length" if answer.num_tokens == config.generation.max_new_tokens else "stop"
    )
    names = {path.name for path in Path(result.model).iterdir()}
    assert {"config.json", "mapper.safetensors", "adapter_config.json", "adapter_model.safetensors"} <= names
    assert {"generation_config.json", "santa_memory.safetensors", "tokenizer.json", "README.md"} <= names


def test_the_adapter_loads_in_plain_peft(unbroken):
    result, config = unbroken

    adapted = PeftModel.from_pretrained(load_llm(config.llm_path), result.model)

    trained = {name for name, p in adapted.named_parameters() if "lora_B" in name and p.abs().sum() > 0}
    assert len(trained) == 2  # q_proj and v_proj of the one layer


def test_a_killed_worker_changes_nothing_of_the_result(world, unbroken):
    reference, _ = unbroken
    config = other_run(world, "killed")
    killer = Killer(f"{config.runs_dir}/killed/metrics.jsonl", after=12)
    killer.start()

    result = train(config)
    killer.join()

    assert killer.killed_at is not None
    assert 12 <= killer.killed_at < config.train.num_steps
    assert losses(result.metrics) == losses(reference.metrics)
    expected, found = weights(reference), weights(result)
    assert expected.keys() == found.keys()
    assert all(expected[name].equal(found[name]) for name in expected)


def test_a_finished_run_run_again_trains_nothing(world, unbroken):
    result, config = unbroken
    before = weights(result)

    again = train(config)

    assert losses(again.metrics) == losses(result.metrics)
    assert all(before[name].equal(t) for name, t in weights(again).items())


def checkpoints_of(result):
    return Path(result.metrics).parent / "checkpoints"


def test_held_out_loss_and_answers_are_logged_and_tracked(unbroken):
    result, _ = unbroken
    run = Path(result.metrics).parent

    measured = {
        step: record["validation_loss"]
        for step, record in read_records(result.metrics).items()
        if "validation_loss" in record
    }
    assert sorted(measured) == [10, 20, 30, 40, 50, 60]
    assert measured[60] < measured[10]
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [step for step in sorted(measured) for _ in range(2)]
    assert list((run / "tensorboard").glob("events.*"))
    (state,) = (run / "checkpoints" / "step-00000060").glob("state.json")
    inputs = json.loads(state.read_text())["inputs"]
    assert inputs["rows"] == {"toy": 80}
    assert inputs["fingerprints"].keys() == {
        "data.embedded",
        "model.clap",
        "model.llm",
        "model.llm.prompt_format",
        "train.init_from",
    }
    last = read_records(result.metrics)[60]
    assert {"loss", "lr", "grad_norm", "tokens_per_s", "samples_per_s", "data_wait_share"} <= last.keys()
    assert 0 < last["mfu"] < 1
    assert 0.1 < last["peak_memory_gb"] < 10


def test_a_run_of_another_configuration_is_not_resumed(unbroken):
    _, config = unbroken

    with pytest.raises(
        TrainingError, match=r"another configuration: train\.optim\.lr was 0\.001, is 0\.002; .*output_dir="
    ):
        train(config.replace(train={"optim": {"lr": 2e-3}}))


@pytest.mark.slow
def test_a_run_is_not_resumed_on_another_base_model_at_the_same_path(world, unbroken, tmp_path):
    reference, _ = unbroken
    llm = shutil.copytree(world.llm_path, tmp_path / "llm")
    config = other_run(world, "replaced", model={"llm": {"path": str(llm)}}, scaling={"num_workers": 1})
    store = Path(config.runs_dir) / "replaced" / "checkpoints"
    shutil.copytree(checkpoints_of(reference) / "step-00000060", store / "step-00000060")
    shutil.copytree(checkpoints_of(reference) / "step-00000050", store / "step-00000050")

    train(config)  # finished, and from a copy of the same base model
    shutil.rmtree(config.model_dir)  # of the run that the checkpoints were copied from
    shutil.rmtree(store / "step-00000060")
    other = load_llm(str(llm))
    other.model.norm.weight.data.add_(1e-3)
    other.save_pretrained(llm)

    with pytest.raises(
        TrainingError,
        match=r"step 50\) was started from other inputs: model\.llm was \w{16}, is \w{16}; bring",
    ):
        train(config)


def test_a_run_that_is_being_trained_is_not_trained_twice(unbroken):
    _, config = unbroken

    with (
        lock_folder(config.run_dir, by="mats train"),
        pytest.raises(DataError, match="is in use: `mats train` on "),
    ):
        train(config)


def test_what_is_missing_is_named_before_workers_start(world, tmp_path):
    with pytest.raises(ConfigError, match="no Santa memory at"):
        train(tiny_config(tmp_path))
    with pytest.raises(DataError, match=r"16-d embeddings, model\.clap\.dim is 24"):
        train(
            other_run(
                world,
                "wide",
            ).replace(model={"clap": {"dim": 24}})
        )


def test_a_loss_that_is_not_finite_ends_the_run(world):
    config = other_run(
        world,
        "nan",
        train={
            "optim": {"lr": 1e30, "max_grad_norm": 1e30},
            "schedule": {"type": "constant", "warmup_steps": 0},
        },
    )

    with pytest.raises(TrainingError, match=r"step \d+: loss sum nan"):
        train(config)


def test_a_stage_that_exceeds_its_limit_is_named_and_ends_the_run(world):
    """No machine imports DeepSpeed and loads a model in a tenth of a second."""
    train_changes = {"stall_seconds": 0.1, "max_failures": 0}
    config = other_run(world, "stuck", train=train_changes, scaling={"num_workers": 1})

    with pytest.raises(
        TrainingError,
        match=r"worker \d is stuck in step 0: (starting|loading a checkpoint|loading the model) took longer",
    ):
        train(config)


@pytest.mark.slow
def test_two_workers_then_one_then_three_end_as_an_unbroken_run(world, unbroken):
    """Each resumes from the last checkpoint of the one before, with another ZeRO stage besides."""
    reference, _ = unbroken
    config = other_run(world, "moving")
    store = Path(config.runs_dir) / "moving" / "checkpoints"
    shutil.copytree(checkpoints_of(reference) / "step-00000020", store / "step-00000020")

    one = train(config.replace(scaling={"num_workers": 1}, train={"engine": {"zero_stage": 0}}))
    after_one = losses(one.metrics)
    for step in (50, 60):
        shutil.rmtree(store / f"step-{step:08d}")
    three = train(config.replace(scaling={"num_workers": 3}, train={"engine": {"zero_stage": 3}}))
    after_three = losses(three.metrics)

    expected = losses(reference.metrics)
    assert sorted(after_one) == list(range(1, 61))  # the checkpoint remembers the first twenty
    assert after_one == pytest.approx({step: expected[step] for step in after_one}, rel=1e-4)
    assert after_three == pytest.approx({step: expected[step] for step in after_three}, rel=1e-4)
    assert {step for step in after_three if after_three[step] != after_one[step]} <= set(range(41, 61))
    assert weights(three).keys() == weights(reference).keys()


def test_no_training_worker_is_left_behind(unbroken, ray_cluster):
    assert ray.is_initialized()
    deadline = time.monotonic() + WAIT_SECONDS
    while train_worker_pids() and time.monotonic() < deadline:
        threading.Event().wait(0.2)
    assert train_worker_pids() == []


@pytest.mark.slow
def test_a_bf16_run_starts_from_an_fp32_model_and_is_made_longer(world, unbroken):
    """At a learning rate of nothing its weights stay those of the earlier model."""
    earlier, _ = unbroken
    standing_still = {"optim": {"lr": 1e-30}, "engine": {"precision": "bf16"}, "num_steps": 3}
    config = other_run(world, "going-on", train={**standing_still, "init_from": earlier.model})

    short = read_records(train(config).metrics)
    longer = train(config.replace(train={"num_steps": 4}))

    expected = read_records(earlier.metrics)[60]["validation_loss"]
    assert short[3]["validation_loss"] == pytest.approx(expected, rel=0.02)
    assert read_records(longer.metrics) == short | {4: read_records(longer.metrics)[4]}
    state = json.loads((Path(longer.checkpoint) / "state.json").read_text())
    assert state["num_steps_changes"] == [{"step": 3, "was": 3, "now": 4}]
    found, stored = weights(longer), weights(earlier)
    assert found.keys() == stored.keys()
    assert all(found[name].equal(t) for name, t in stored.items())  # fp32 copies, not rounded
    with pytest.raises(TrainingError, match=r"train\.init_from was \w{16}, is not set; bring the old ones"):
        train(config.replace(train={"num_steps": 4, "init_from": None}))
