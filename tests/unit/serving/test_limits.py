import pytest

from mats_ray.config.serve import ServeConfig
from mats_ray.serving.errors import RequestError
from mats_ray.serving.limits import check_labels


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([], "at least one"),
        (["a", " "], "empty"),
        (["a", "a"], "twice"),
        (["abcdef"], "6 characters"),
        (list("abcd"), "4 labels"),
    ],
    ids=["none", "blank", "twice", "long", "many"],
)
def test_unusable_labels_are_refused(labels, reason):
    with pytest.raises(RequestError, match=reason):
        check_labels(labels, ServeConfig(max_labels=3, max_question_characters=5))
