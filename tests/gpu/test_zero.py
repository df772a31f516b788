"""DeepSpeed's stages on the device: the losses of plain torch, and a state that any stage resumes from."""

import importlib.util
import os
import traceback
from typing import Any

import pytest
import torch
from torch import multiprocessing

from tests.unit.train.small import small_run, stream, update

pytestmark = pytest.mark.gpu

STAGES, STEPS = (0, 1, 2, 3), 4
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2}


def train_all(llm_path, device, folder):
    """Run every stage in both precisions, and resume each from the state of another; losses go to a file."""
    os.environ |= {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}
    if device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    from torch import distributed  # noqa: TID251  (what Ray Train does for its workers)

    backend = "nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1)  # pyright: ignore[reportPrivateImportUsage]

    found: dict[Any, Any] = {"torch": losses(engine_of(llm_path, device), llm_path)}
    for precision in TOLERANCE:
        halfway = None
        for stage in STAGES:
            kind = {"zero_stage": stage, "precision": precision}
            found[precision, stage] = losses(engine_of(llm_path, device, **kind), llm_path)
            if halfway is not None:
                resumed = engine_of(llm_path, device, **kind)
                resumed.load_state(halfway[0])
                found[precision, stage, "resumed"] = losses(resumed, llm_path, first=2), halfway[1]
            fresh = engine_of(llm_path, device, **kind)
            losses(fresh, llm_path, stop=2)
            halfway = fresh.state(), losses(fresh, llm_path, first=2)
    torch.save(found, f"{folder}/losses.pt")


def engine_of(llm_path, device, **kind):
    """Build an engine of DeepSpeed, without a kind of plain torch; without dropout."""
    from mats_ray.models.build import build_mats
    from mats_ray.train.engine import TorchEngine
    from mats_ray.train.on_deepspeed import DeepSpeedEngine

    engine = {"type": "deepspeed" if kind else "torch"} | kind
    config = small_run(llm_path, train={"engine": engine}, model={"llm": {"lora": {"dropout": 0.0}}})
    model, _ = build_mats(config.model, llm_path=llm_path, seed=config.seed)
    if not kind:
        return TorchEngine(model, config.train.optim, device=device)
    return DeepSpeedEngine(model, config.train, device=device)


def losses(engine, llm_path, first=0, stop=STEPS):
    """Train steps ``first`` to ``stop``; returns the loss sums."""
    config = small_run(llm_path)
    steps = [list(stream(config, start_step=step, num_steps=step + 1)) for step in range(first, stop)]
    return [update(engine, step, lr=1e-3).loss_sum for step in steps]


def guarded(llm_path, device, folder):
    try:
        train_all(llm_path, device, folder)
    except BaseException:
        (folder / "error").write_text(traceback.format_exc())
        raise


@pytest.fixture(scope="module")
def found(llm_path, device, tmp_path_factory):
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed")
    folder = tmp_path_factory.mktemp("zero")
    process = multiprocessing.get_context("spawn").Process(target=guarded, args=(llm_path, device, folder))
    process.start()
    process.join(240)
    if process.is_alive():
        process.kill()
    error = folder / "error"
    assert not error.exists(), error.read_text()
    return torch.load(folder / "losses.pt", weights_only=False)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_the_losses_of_plain_torch(found, stage, precision):
    assert found[precision, stage] == pytest.approx(found["torch"], rel=TOLERANCE[precision])
    assert found[precision, stage][-1] < found[precision, stage][0]


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_resumes_from_the_state_of_another(found, stage, precision):
    resumed, unbroken = found[precision, stage, "resumed"]

    assert resumed == pytest.approx(unbroken, rel=TOLERANCE[precision])
