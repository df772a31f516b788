"""A hub id is looked up in the local cache first; without it and a network, the error names both."""

import shutil

import pytest

from mats_ray.errors import ModelError
from mats_ray.models.clap import load_clap
from mats_ray.models.clap.hub import is_hub_id, refuse_untrained


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("laion/clap-htsat-unfused", True),
        ("clap", False),
        ("/models/clap", False),
        ("a/b/c", False),
        ("./a/b", False),
    ],
)
def test_hub_ids_have_an_owner_and_a_name(ref, expected):
    assert is_hub_id(ref) is expected


def test_a_cached_hub_id_is_loaded_without_a_network(empty_hub_cache, clap_dir):
    repository = empty_hub_cache / "models--acme--clap"
    shutil.copytree(clap_dir, repository / "snapshots" / "0123abcd")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd")

    clap = load_clap("acme/clap")

    assert clap.identity == load_clap(clap_dir).identity
    assert clap.encode_text(["a dog"]).shape == (1, 24)


def test_a_hub_id_that_cannot_be_had_is_an_error_with_a_remedy():
    with pytest.raises(ModelError, match=r"no CLAP at acme/clap: .*pass the directory"):
        load_clap("acme/clap")


@pytest.mark.parametrize(
    "name",
    [
        "laion/larger_clap_music",
        "LAION/larger_clap_music/",
        "/models/larger_clap_music",
        "/cache/models--laion--larger_clap_music/snapshots/0123abcd",
    ],
)
def test_laions_untrained_model_is_known_by_its_names(name):
    with pytest.raises(ModelError, match=r"untrained projection.*music_audioset_epoch_15_esc_90\.14\.pt"):
        refuse_untrained("fine", name)


def test_laions_untrained_model_is_refused_before_it_is_looked_for(empty_hub_cache):
    with pytest.raises(ModelError, match="untrained projection"):
        load_clap("laion/larger_clap_music")


@pytest.mark.parametrize(
    "name", ["laion/larger_clap_general", "laion/larger_clap_music_and_speech", "music_audioset.pt", "None"]
)
def test_similar_ids_are_not_mistaken_for_it(name):
    refuse_untrained(name)
