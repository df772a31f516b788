"""Prices of requests, by the list's own units."""

import pytest

from mats_ray.storage.s3_prices import S3_STANDARD, S3Requests


@pytest.mark.parametrize(
    ("requests", "dollars"),
    [
        (S3Requests(), 0),
        (S3Requests(lists=1_000), 0.005),
        (S3Requests(puts=1_000), 0.005),
        (S3Requests(gets=1_000), 0.0004),
        (S3Requests(heads=1_000), 0.0004),
        (S3Requests(lists=100_000, gets=100_000_000, puts=2_000), 0.5 + 40 + 0.01),
    ],
)
def test_requests_cost_what_the_list_says(requests, dollars):
    assert requests.dollars(S3_STANDARD) == pytest.approx(dollars)


def test_the_list_names_its_region_and_date():
    assert S3_STANDARD.region
    assert S3_STANDARD.date
