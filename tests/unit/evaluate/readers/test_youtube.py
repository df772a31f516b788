"""Names of clips of YouTube videos as downloaders write them."""

import pytest

from mats_ray.evaluate.readers.youtube import clip_names, only_clip_names


@pytest.mark.parametrize(
    "name",
    [
        *("-x_000030", "-x_30", "-x_30_40", "-x_30.000_40.000", "-x_30000", "-x_30000_40000"),
        *("[-x]-[30-40]", "Y-x_30", "Y-x_30.000_40.000"),
    ],
)
def test_a_clip_has_the_names_of_common_downloaders(name):
    assert name in clip_names("-x", 30, 40)


def test_a_clip_is_not_called_by_its_video_alone_if_that_may_have_others():
    assert not {"-x", "Y-x"} & set(clip_names("-x", 30, 40))


def test_the_only_clip_of_a_video_is_called_by_its_id_first_of_all():
    names = only_clip_names("-x", 30, 40)

    assert names[:2] == ("-x", "Y-x")
    assert set(clip_names("-x", 30, 40)) < set(names)


def test_two_clips_of_a_video_share_no_name():
    assert not set(clip_names("x", 0, 10)) & set(clip_names("x", 10, 20))
