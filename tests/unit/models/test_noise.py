"""The Gaussian step: on the sphere, of the right size, and drawn from (seed, epoch, row) alone."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mats_ray.models.noise import add_noise, inject_noise, row_noise


def unit_rows(num_rows, dim, seed=0):
    return normalize(torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_noise_keeps_unit_norm():
    noised = inject_noise(5 * unit_rows(100, 16), variance=0.5)

    torch.testing.assert_close(noised.norm(dim=-1), torch.ones(100))


def test_the_draw_has_the_given_variance():
    direction = torch.tensor([1.0, 0.0])
    generator = torch.Generator().manual_seed(0)

    noised = inject_noise(direction.expand(100_000, 2), variance=0.015, generator=generator)

    # back on the unit circle only the angle is left, and tan(angle) = n2 / (1 + n1)
    tangent = noised[:, 1] / noised[:, 0]
    n1, n2 = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(1)).mul(0.015**0.5).unbind(1)
    torch.testing.assert_close(tangent.var(), (n2 / (1 + n1)).var(), rtol=0.02, atol=0)
    torch.testing.assert_close(tangent.mean(), torch.tensor(0.0), rtol=0, atol=2e-3)


def test_it_is_the_formula_of_the_paper():
    text, noise = 3 * unit_rows(5, 8), torch.randn(5, 8, generator=torch.Generator().manual_seed(1))

    expected = torch.stack(
        [(t / t.norm() + 0.1 * n) / (t / t.norm() + 0.1 * n).norm() for t, n in zip(text, noise, strict=True)]
    )

    torch.testing.assert_close(add_noise(text, noise, variance=0.01), expected)


def test_without_variance_the_embedding_is_only_normalised():
    text = 3 * unit_rows(5, 8)

    torch.testing.assert_close(inject_noise(text, variance=0), normalize(text, dim=-1))


def test_the_given_generator_is_the_only_source_of_chance():
    text = unit_rows(5, 8)

    first, second = (inject_noise(text, generator=torch.Generator().manual_seed(3)) for _ in range(2))

    assert torch.equal(first, second)


def test_half_precision_comes_out_in_single():
    assert inject_noise(unit_rows(2, 4).half()).dtype == torch.float32


def test_a_negative_variance_is_refused():
    with pytest.raises(ValueError, match=r"must not be negative, got -0\.1"):
        inject_noise(unit_rows(2, 4), variance=-0.1)


def test_row_noise_depends_on_seed_epoch_and_row_only():
    together = row_noise([7, 2**63, 7, 0], 6, seed=1, epoch=2)

    assert torch.equal(together[0], together[2])
    assert torch.equal(together[1:2], row_noise([2**63], 6, seed=1, epoch=2))
    assert torch.equal(together[[3]], row_noise([0], 6, seed=1, epoch=2))


@pytest.mark.parametrize("other", [{"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}, {"seed": 2, "epoch": 1}])
def test_another_seed_or_epoch_is_another_draw(other):
    assert not torch.allclose(row_noise([7], 64, seed=1, epoch=2), row_noise([7], 64, **other))


def test_row_noise_is_standard_normal():
    noise = row_noise(range(1000), 100, seed=0, epoch=0).numpy()

    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.01
    assert abs(noise.var() - 1) < 0.02
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.4
