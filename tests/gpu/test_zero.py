"""DeepSpeed's stages on the device: the losses of plain torch, and a state that any stage resumes from."""

import importlib.util
import os
import traceback

import pytest
import torch
from torch import multiprocessing

pytestmark = pytest.mark.gpu

STAGES, STEPS = (0, 1, 2, 3), 4
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2}


def train_all(llm_path, device, folder):
    """Run every stage in both precisions, and resume each from the state of another; losses go to a file."""
    os.environ |= {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}
    if device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    from torch import distributed  # noqa: TID251  (what Ray Train does for its workers)

    from mats_ray.models.build import build_mats
    from mats_ray.train.engine import TorchEngine
    from mats_ray.train.on_deepspeed import DeepSpeedEngine
    from tests.unit.train.small import small_run, stream, update

    backend = "nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1)

    def engine_of(stage, precision):
        kind = {"type": "torch"} if stage is None else {"zero_stage": stage, "precision": precision}
        config = small_run(
            llm_path,
            train={"engine": {"type": "deepspeed"} | kind},
            model={"llm": {"lora": {"dropout": 0.0}}},
        )
        model, _ = build_mats(config.model, llm_path=llm_path, seed=config.seed)
        if stage is None:
            return TorchEngine(model, config.train.optim, device=device)
        return DeepSpeedEngine(model, config.train, device=device)

    def losses(engine, first=0):
        config = small_run(llm_path)
        steps = [list(stream(config, start_step=step, num_steps=step + 1)) for step in range(first, STEPS)]
        return [update(engine, step, lr=1e-3).loss_sum for step in steps]

    found = {"torch": losses(engine_of(None, None))}
    for precision in TOLERANCE:
        halfway = None
        for stage in STAGES:
            engine = engine_of(stage, precision)
            found[precision, stage] = losses(engine)
            if halfway is not None:
                resumed = engine_of(stage, precision)
                resumed.load_state(halfway[0])
                found[precision, stage, "resumed"] = losses(resumed, first=2), halfway[1]
            fresh = engine_of(stage, precision)
            config = small_run(llm_path)
            for step in range(2):
                update(fresh, list(stream(config, start_step=step, num_steps=step + 1)), lr=1e-3)
            halfway = fresh.state(), losses(fresh, first=2)
    torch.save(found, f"{folder}/losses.pt")


def guarded(llm_path, device, folder):
    try:
        train_all(llm_path, device, folder)
    except BaseException:
        (folder / "error").write_text(traceback.format_exc())
        raise


@pytest.fixture(scope="module")
def losses(llm_path, device, tmp_path_factory):
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
def test_a_stage_has_the_losses_of_plain_torch(losses, stage, precision):
    assert losses[precision, stage] == pytest.approx(losses["torch"], rel=TOLERANCE[precision])
    assert losses[precision, stage][-1] < losses[precision, stage][0]


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_resumes_from_the_state_of_another(losses, stage, precision):
    resumed, unbroken = losses[precision, stage, "resumed"]

    assert resumed == pytest.approx(unbroken, rel=TOLERANCE[precision])
