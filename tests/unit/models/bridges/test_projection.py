"""All texts of the support weigh in, by their similarity."""

import pytest
import torch
from torch.nn.functional import normalize

from mats_ray.config.bridge import ProjectionConfig
from mats_ray.models.bridges.projection import Projection
from mats_ray.models.santa import SantaMemory
from tests.unit.models.bridges.cases import drawn, units


def test_it_is_the_softmax_over_the_whole_support():
    support, audio = units(30), drawn(4, seed=3)

    moved = Projection(support, ProjectionConfig(temperature=0.2)).transfer(audio)

    weights = (normalize(audio, dim=-1) @ support.T / 0.2).softmax(dim=-1)
    torch.testing.assert_close(moved, normalize(weights @ support, dim=-1))


def test_a_low_temperature_leaves_the_nearest_text_and_a_high_one_the_mean():
    support, audio = units(30), drawn(1, seed=3)
    nearest = support[(support @ audio[0]).argmax()]

    low, high = (
        Projection(support, ProjectionConfig(temperature=one)).transfer(audio)[0] for one in (1e-4, 100)
    )

    torch.testing.assert_close(low, nearest, rtol=0, atol=1e-5)
    torch.testing.assert_close(high, normalize(support.mean(0), dim=0), rtol=0, atol=0.1)


def test_the_clusters_of_a_memory_play_no_part():
    rows, audio = units(40), drawn(5, seed=3)

    moved = [
        Projection.onto(
            SantaMemory.build(rows, num_clusters=clusters, noise_variance=0), ProjectionConfig()
        ).transfer(audio)
        for clusters in (1, 7)
    ]

    torch.testing.assert_close(*moved)


def test_an_empty_support_is_refused():
    with pytest.raises(ValueError, match="the text support of a projection is empty"):
        Projection(torch.empty(0, 8))
