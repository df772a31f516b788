"""The recipe draws what the golden numbers were made with."""

import zlib

import numpy as np
import pytest

from tests.golden.recipe import fill

PUBLISHED = [
    ("dev", "x.weight", (2, 3), [-0.2796565, -0.98988193, -0.73191625, -0.9350189, -0.5309544, 0.41343817]),
    ("heldout", "x.weight", (2, 3), [-0.67082125, 0.1402405, -0.7935046, 0.8782865, -0.91369253, -0.4202942]),
    ("dev", "ln.weight", (3,), [0.98720545, 0.8856959, 0.86982197]),
    ("dev", "logit_scale_a", (), [2.6245449]),
]


@pytest.mark.parametrize(("salt", "name", "shape", "values"), PUBLISHED)
def test_recipe_draws_the_published_values(salt, name, shape, values):
    np.testing.assert_array_equal(fill(salt, name, shape).ravel(), np.array(values, np.float32))


def test_drawing_in_blocks_does_not_change_the_stream():
    stream = np.random.PCG64(zlib.crc32(b"dev:x.weight"))
    whole = ((stream.random_raw(140_000) >> np.uint64(11)) * 2.0**-53 * 2.0 - 1.0) * 3.0**0.5

    np.testing.assert_array_equal(
        fill("dev", "x.weight", (70_000, 2)).ravel(), (whole / 2.0**0.5).astype(np.float32)
    )
