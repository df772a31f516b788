"""The package's recipe is that of the golden numbers."""

import numpy as np
import pytest

from mats_ray.rehearsal.recipe import fill
from tests.golden import recipe


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("layers.0.weight", (7, 5)),
        ("norm.weight", (9,)),
        ("proj.bias", (3,)),
        ("bn0.running_mean", (64,)),
        ("bn0.running_var", (64,)),
        ("bn.running_var", (4,)),
        ("logit_scale", ()),
        ("wte.weight", (300, 128)),  # more than one block
    ],
)
def test_values_are_those_of_the_golden_recipe(name, shape):
    np.testing.assert_array_equal(fill(name, shape, salt="dev"), recipe.fill("dev", name, shape))
