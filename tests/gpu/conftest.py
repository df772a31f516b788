"""Claims about a GPU; where there is none they are tested on the CPU, so that the tests themselves work."""

from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def device(request):
    """The device: ``--device``, by default the GPU where there is one."""
    return request.config.getoption("--device")


@pytest.fixture(scope="session")
def llm_path(tmp_path_factory):
    from tests.world import tiny_llm

    return str(tiny_llm(tmp_path_factory.mktemp("llm")))


@pytest.fixture(scope="session")
def models(llm_path):
    """Build models of any precision and attention from the same weights, without dropout."""
    from mats_ray.models.build import build_mats
    from tests.unit.train.small import small_run

    def build(*, dtype="float32", device="cpu", attention="sdpa"):
        config = small_run(llm_path).model
        lora = config.llm.lora.model_copy(update={"dropout": 0.0})
        config = config.model_copy(
            update={"llm": config.llm.model_copy(update={"lora": lora, "dtype": dtype})}
        )
        model, _ = build_mats(config, llm_path=llm_path, seed=0)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():  # a fresh adapter is zero
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1, generator=generator)
        llm: Any = model.llm
        llm.get_base_model().set_attn_implementation(attention)
        return model.to(device)

    return build


@pytest.fixture(scope="session")
def batch(llm_path):
    """Eight rows of many lengths, on the CPU."""
    from tests.unit.train.small import small_run, stream

    config = small_run(llm_path, train={"micro_batch_size": 8})
    return next(stream(config, num_steps=1))
