"""Santa as a bridge is the memory with its numbers, the paper's or upstream's."""

import torch

from mats_ray.config.answer import SantaOptions
from mats_ray.config.santa import SantaConfig
from mats_ray.models.bridges.santa import Santa
from mats_ray.models.santa import SantaMemory
from mats_ray.models.upstream.santa import transfer_as_upstream
from tests.unit.models.bridges.cases import drawn, units

MEMORY = SantaMemory.build(units(40), num_clusters=3)
NUMBERS = {"num_neighbours": 5, "temperature": 0.2, "mix": 0.4}


def test_it_moves_as_its_memory_does():
    audio = drawn(6, seed=3)

    assert torch.equal(
        Santa(MEMORY, SantaConfig(**NUMBERS)).transfer(audio), MEMORY.transfer(audio, **NUMBERS)
    )


def test_it_moves_as_upstream_where_it_is_set():
    audio = 30 * drawn(6, seed=3)
    upstream = SantaConfig(**NUMBERS, compat="upstream", neighbour_noise_variance=0.015)

    expected = transfer_as_upstream(MEMORY, audio, **NUMBERS, noise_variance=0.015)
    assert torch.equal(Santa(MEMORY, upstream).transfer(audio), expected)


def test_a_request_replaces_the_numbers_it_names():
    changed = Santa(MEMORY, SantaConfig(**NUMBERS)).with_numbers(SantaOptions(mix=0.9))

    assert changed.numbers == SantaConfig(**NUMBERS | {"mix": 0.9})
    assert changed.description() == "L=5, tau=0.2, lambda=0.9, as paper"
