import pytest

from mats_ray.serving.errors import RequestError
from mats_ray.serving.labels import check_labels


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
