"""A hub id is looked up in the local cache first; without it and a network, the error says so."""

import shutil

import pytest

from mats_ray.errors import ModelError
from mats_ray.models.clap import load_clap
from mats_ray.models.clap.hub import is_hub_id


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
