"""One door for every kind of CLAP."""

import pytest

from mats_ray.errors import ModelError
from mats_ray.models.clap import load_clap


def test_every_kind_comes_through_one_door(clap_dir, laion_file, fused_file, msclap_file):
    families = [
        load_clap(ref).identity.family for ref in (clap_dir, str(laion_file), fused_file, msclap_file)
    ]

    assert families == ["transformers", "laion", "laion", "msclap"]


def test_a_ref_that_is_nothing_is_named():
    with pytest.raises(ModelError, match=r"no CLAP at missing\.pt: no such file or directory"):
        load_clap("missing.pt")
