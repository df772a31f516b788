"""What a log line says of the steps since the last one."""

import pytest

from mats_ray.train.engine import StepResult
from mats_ray.train.throughput import Window


def test_the_loss_is_the_mean_over_answer_tokens_not_over_steps():
    window = Window()
    window.count(StepResult(10.0, 5, 50, 1.0), 8, seconds=1.0, waited=0.25)
    window.count(StepResult(2.0, 15, 70, 1.0), 8, seconds=3.0, waited=0.75)

    assert window.rates() == {
        "loss": pytest.approx(12 / 20),
        "samples_per_s": pytest.approx(16 / 4),
        "tokens_per_s": pytest.approx(120 / 4),
        "data_wait_share": pytest.approx(1 / 4),
    }


def test_an_empty_window_divides_by_nothing():
    assert Window().rates() == {"loss": 0, "samples_per_s": 0, "tokens_per_s": 0, "data_wait_share": 0}
