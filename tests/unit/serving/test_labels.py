import numpy as np
import pytest

from mats_ray.serving.labels import TEMPERATURE, check_labels, match
from mats_ray.serving.problems import RequestError


def test_scores_are_a_softmax_over_cosines():
    sound = np.array([3.0, 0], np.float32)
    labels = np.array([[0, 2.0], [1, 1], [5, 0]], np.float32)

    best, middle, worst = match(sound, labels, ["across", "between", "along"])

    assert [best.label, middle.label, worst.label] == ["along", "between", "across"]
    assert [best.similarity, worst.similarity] == pytest.approx([1, 0])
    assert best.score / middle.score == pytest.approx(np.exp((1 - 0.5**0.5) / TEMPERATURE), rel=1e-4)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([], "at least one"),
        (["a", " "], "empty"),
        (["a", "a"], "twice"),
        (["abcdef"], "6 characters"),
        (list("abcd"), "4 labels"),
    ],
    ids=["none", "blank", "twice", "long", "many"],
)
def test_what_is_no_set_of_labels_is_refused(labels, said):
    with pytest.raises(RequestError, match=said):
        check_labels(labels, max_labels=3, max_characters=5)
