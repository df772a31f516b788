"""The table of accelerators: plausible numbers under names a command line takes."""

import pytest

from mats_ray.models.gpus import GPUS


@pytest.mark.parametrize("name", GPUS)
def test_a_card_is_plausible_and_named_by_its_memory(name):
    card = GPUS[name]

    assert 1e14 < card.bf16_flops < 1e16
    assert 0.1 < card.dollars_per_hour < 50
    if "-" in name:
        assert name.rsplit("-", 1)[1] == f"{card.memory_gb:.0f}"
