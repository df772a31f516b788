"""DeepSpeed's configuration as a table; the engine runs in test_zero_state.py and tests/integration."""

import pytest

from mats_ray.config.train import TrainConfig
from mats_ray.train.on_deepspeed import zero_config


def settings(num_workers=1, **changes):
    return zero_config(TrainConfig.model_validate(changes), num_workers=num_workers)


@pytest.mark.parametrize(
    ("changes", "num_workers", "expected"),
    [
        ({}, 1, {"gradient_accumulation_steps": 8, "gradient_clipping": 1.0}),
        ({}, 8, {"gradient_accumulation_steps": 1, "train_batch_size": 96}),
        (
            {"micro_batch_size": 4},
            2,
            {"gradient_accumulation_steps": 12, "train_micro_batch_size_per_gpu": 4},
        ),
        ({"optim": {"max_grad_norm": 0.5}}, 1, {"gradient_clipping": 0.5}),
        ({}, 2, {"zero_optimization": {"stage": 2}}),
        ({"engine": {"zero_stage": 0}}, 2, {"zero_optimization": {"stage": 0}}),
        ({}, 1, {"zero_optimization": {"stage": 0}}),  # nothing to partition
        ({"engine": {"precision": "bf16"}}, 1, {"zero_optimization": {"stage": 2}}),
        ({"engine": {"zero_stage": 3}}, 1, {"zero_optimization": {"stage": 3}}),
        ({"engine": {"precision": "fp32"}}, 1, {"bf16": {"enabled": False}}),
        ({"engine": {"precision": "bf16"}}, 1, {"bf16": {"enabled": True}}),
    ],
)
def test_deepspeeds_configuration_follows_ours(changes, num_workers, expected):
    found = settings(num_workers, **changes)

    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("num_workers", [1, 2, 4, 8])
def test_the_batch_sizes_agree_as_deepspeed_demands(num_workers):
    found = settings(num_workers)

    product = found["train_micro_batch_size_per_gpu"] * found["gradient_accumulation_steps"] * num_workers
    assert product == found["train_batch_size"] == 96


def test_optimizer_and_schedule_stay_ours():
    assert not settings().keys() & {"optimizer", "scheduler"}
