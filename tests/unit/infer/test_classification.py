"""Labels are compared with sounds in CLAP's space."""

import numpy as np
import pytest

from mats_ray.errors import DataError
from mats_ray.infer.classification import TEMPERATURE, match, read_labels


def test_scores_are_a_softmax_over_cosines():
    sound = np.array([3.0, 0], np.float32)
    labels = np.array([[0, 2.0], [1, 1], [5, 0]], np.float32)

    best, middle, worst = match(sound, labels, ["across", "between", "along"])

    assert [best.label, middle.label, worst.label] == ["along", "between", "across"]
    assert [best.similarity, worst.similarity] == pytest.approx([1, 0])
    assert best.score / middle.score == pytest.approx(np.exp((1 - 0.5**0.5) / TEMPERATURE), rel=1e-4)


def test_labels_are_read_line_by_line(tmp_path):
    (tmp_path / "labels.txt").write_text("﻿ dog barking\r\n\nrain, on the roof \n")

    assert read_labels(str(tmp_path / "labels.txt")) == ["dog barking", "rain, on the roof"]


@pytest.mark.parametrize(
    ("text", "message"), [("dog\n", "names 1 labels"), ("dog\nrain\ndog", "names the label 'dog' twice")]
)
def test_labels_that_make_no_choice(tmp_path, text, message):
    (tmp_path / "labels.txt").write_text(text)

    with pytest.raises(DataError, match=message):
        read_labels(str(tmp_path / "labels.txt"))


def test_labels_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(str(tmp_path / "none.txt"))
