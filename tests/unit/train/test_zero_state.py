"""ZeRO 0 to 3 on three real workers: plain torch's losses, and states any number of workers resumes from.

Three, because nothing here divides by three: every slice and fragment is uneven.
"""

import os
import socket
from unittest import mock

import pytest
import torch
from torch import multiprocessing

from mats_ray.models.build import build_mats
from mats_ray.train.optim import dropout_seeds
from tests.unit.train.small import fresh_engine, small_run, stream

NUM_WORKERS, STAGES, STEPS = 3, (0, 1, 2, 3), 4
LR = 1e-3


def run_of(llm_path, *, stage=None, precision="fp32"):
    engine = {"type": "torch"} if stage is None else {"zero_stage": stage, "precision": precision}
    batch = {"global_batch_size": 12, "micro_batch_size": 2}
    return small_run(llm_path, train={"engine": {"type": "deepspeed"} | engine, **batch})


def train_steps(engine, config, *, start, stop, rank=0, num_workers=1):
    """Train steps ``start`` to ``stop``; returns the loss sums."""
    losses = []
    for step in range(start, stop):
        whole = list(stream(config, start_step=step, num_steps=step + 1))
        mine = whole[rank::num_workers]
        seeds = dropout_seeds(seed=0, step=step, count=len(mine), rank=rank, num_workers=num_workers)
        losses.append(engine.train_step(mine, lr=LR, seeds=seeds).loss_sum)
    return losses


def worker(rank, llm_path, port, folder):
    """All stages in one process: an import costs more than all of them."""
    os.environ |= {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": str(rank), "RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(NUM_WORKERS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    from torch import distributed  # noqa: TID251  (what Ray Train does for its workers)

    from mats_ray.train.on_deepspeed import DeepSpeedEngine

    distributed.init_process_group("gloo", rank=rank, world_size=NUM_WORKERS)
    halfway = torch.load(f"{folder}/halfway.pt", weights_only=False)
    found = {}
    for stage in STAGES:
        config = run_of(llm_path, stage=stage, precision="fp32")
        place = {"rank": rank, "num_workers": NUM_WORKERS}

        def engine(config=config):
            model, _ = build_mats(config.model, llm_path=llm_path, seed=config.seed)
            return DeepSpeedEngine(model, config.train, device="cpu")

        fresh = engine()
        losses = train_steps(fresh, config, start=0, stop=2, **place)
        state = fresh.state()
        losses += train_steps(fresh, config, start=2, stop=STEPS, **place)
        other = engine()
        other.load_state(state)
        again = train_steps(other, config, start=2, stop=STEPS, **place)
        other.load_state(halfway)
        after_torch = train_steps(other, config, start=2, stop=STEPS, **place)
        held_out = fresh.evaluate(list(stream(config, num_steps=1))[rank::NUM_WORKERS])
        answers = fresh.model.eval().answer(torch.eye(2, 16), [[5], [6, 7]], max_new_tokens=4)
        fresh.model.train()
        more = train_steps(fresh, config, start=STEPS, stop=STEPS + 1, **place)  # trainable after answering
        found[stage] = {
            "losses": losses,
            "again": again,
            "after_torch": after_torch,
            "state": state,
            "held_out": held_out,
            "answers": [answer.ids for answer in answers],
            "more": more,
        }
    found["bf16"] = _bf16(rank, llm_path, DeepSpeedEngine)
    found["whole"] = {stage: _most_whole(stage, llm_path, DeepSpeedEngine) for stage in (2, 3)}
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")


def _bf16(rank, llm_path, engine_type):
    """Losses of three steps, and of the last one again after taking up the state before it."""
    found = {}
    for stage in STAGES:
        config = run_of(llm_path, stage=stage, precision="bf16")
        place = {"rank": rank, "num_workers": NUM_WORKERS}
        model, _ = build_mats(config.model, llm_path=llm_path, seed=config.seed)
        engine = engine_type(model, config.train, device="cpu")
        before = train_steps(engine, config, start=0, stop=2, **place)
        state = engine.state()
        after = train_steps(engine, config, start=2, stop=3, **place)
        engine.load_state(state)
        found[stage] = (before, after, train_steps(engine, config, start=2, stop=3, **place))
    return found


def _most_whole(stage, llm_path, engine_type):
    """Return the number of parameters, and of those whole on the device at once while an engine is built.

    What moves to the device: a module with all that is whole in it, or a parameter that is then partitioned.
    """
    from deepspeed.runtime.zero.partition_parameters import Init

    config, counts, moved = run_of(llm_path, stage=stage, precision="bf16"), [], []
    move, partition = torch.nn.Module.to, Init._zero_init_param

    def move_module(module, *args, **kwargs):
        counts.append(sum(parameter.numel() > 0 for parameter in module.parameters()))
        return move(module, *args, **kwargs)

    def move_parameter(init, parameter):
        moved.append(parameter)
        counts.append(sum(one.numel() > 0 for one in moved))
        partition(init, parameter)

    model, _ = build_mats(config.model, llm_path=llm_path, seed=config.seed)
    with (
        mock.patch.object(torch.nn.Module, "to", move_module),
        mock.patch.object(Init, "_zero_init_param", move_parameter),
    ):
        engine_type(model, config.train, device="cpu")
    return len(list(model.parameters())), max(counts)


@pytest.fixture(scope="module")
def reference(llm_path):
    """Plain torch in this process: loss sums, and the state after two steps."""
    config = run_of(llm_path)
    engine = fresh_engine(config)
    losses = train_steps(engine, config, start=0, stop=2)
    halfway = engine.state()
    losses += train_steps(engine, config, start=2, stop=STEPS)
    held_out = engine.evaluate(list(stream(config, num_steps=1)))
    return losses, halfway, held_out


@pytest.fixture(scope="module")
def found(llm_path, reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zero")
    torch.save(reference[1], folder / "halfway.pt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(worker, (llm_path, port, str(folder)), nprocs=NUM_WORKERS)
    return torch.load(folder / "found.pt", weights_only=False)


@pytest.mark.parametrize("stage", STAGES)
def test_three_workers_train_as_plain_torch_does(found, reference, stage):
    """With dropout: its masks follow the micro-batch, not the worker."""
    losses, _, held_out = reference

    assert found[stage]["losses"] == pytest.approx(losses, rel=1e-4)
    assert found[stage]["held_out"] == pytest.approx(held_out, rel=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_a_resumed_run_is_the_unbroken_one_to_the_bit(found, stage):
    assert found[stage]["again"] == found[stage]["losses"][2:]


@pytest.mark.parametrize("stage", STAGES)
def test_three_workers_resume_from_the_state_of_one(found, reference, stage):
    assert found[stage]["after_torch"] == pytest.approx(reference[0][2:], rel=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_one_worker_resumes_from_the_state_of_three(found, reference, stage, llm_path):
    config = run_of(llm_path)
    engine = fresh_engine(config)

    engine.load_state(found[stage]["state"])

    assert train_steps(engine, config, start=2, stop=STEPS) == pytest.approx(reference[0][2:], rel=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_only_what_is_trained_is_in_the_state(found, reference, stage):
    state, expected = found[stage]["state"], reference[1]

    assert state.trained.keys() == expected.trained.keys()
    assert {name: t.shape for name, t in state.moments.items()} == {
        name: t.shape for name, t in expected.moments.items()
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_model_that_has_answered_can_still_be_trained(found, stage):
    assert found[stage]["answers"] == found[0]["answers"]
    assert found[stage]["more"] == pytest.approx(found[0]["more"], rel=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_bf16_is_near_and_resumes_to_the_bit(found, reference, stage):
    before, after, resumed = found["bf16"][stage]

    assert before + after == pytest.approx(reference[0][:3], rel=2e-2)
    assert resumed == after


def test_stage_3_never_has_the_whole_model_on_the_device(found):
    num_parameters, most = found["whole"][2]
    assert most == num_parameters  # the other stages need it there

    assert found["whole"][3] == (num_parameters, 1)
