"""One function loads every kind of CLAP."""

import pytest

from mats_ray.errors import ModelError
from mats_ray.models.clap import load_clap
from mats_ray.models.clap.load import local_hash


def test_every_kind_is_loaded_by_one_function(clap_dir, laion_file, fused_file, msclap_file):
    families = [
        load_clap(ref).identity.family for ref in (clap_dir, str(laion_file), fused_file, msclap_file)
    ]

    assert families == ["transformers", "laion", "laion", "msclap"]


def test_the_hash_of_a_checkpoint_is_known_without_loading_it(clap_dir, laion_file):
    for ref in (clap_dir, laion_file):
        assert local_hash(ref) == load_clap(ref).identity.checkpoint_hash
    assert local_hash("laion/clap-htsat-unfused") is None


def test_a_ref_that_is_nothing_is_named():
    with pytest.raises(ModelError, match=r"no CLAP at missing\.pt: no such file or directory"):
        load_clap("missing.pt")
