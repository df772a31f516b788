"""Santa: the paper's behaviour where both agree, upstream's own behind its option."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mats_ray.models.bridges.kmeans import kmeans
from mats_ray.models.santa import SantaMemory
from mats_ray.models.upstream.santa import transfer_as_upstream
from tests.golden.clap_checkpoints import assert_near
from tests.golden.recipe import golden_files

TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=golden_files("santa"))
def golden(request):
    return np.load(request.param)


@pytest.fixture(scope="module")
def options(golden):
    meta = json.loads(str(golden["meta"]))
    # upstream's temperature multiplies, ours divides
    return {"num_neighbours": meta["k_nums"], "mix": meta["lam"], "temperature": 1 / meta["temperature"]}


@pytest.fixture(scope="module")
def clusters(golden):
    meta = json.loads(str(golden["meta"]))
    return kmeans(
        torch.from_numpy(golden["memory"]),
        num_clusters=meta["groups"],
        num_iterations=meta["iters"],
        initial_rows_K=torch.from_numpy(golden["kmeans_init"]),
    )


@pytest.fixture(scope="module")
def memory(golden, clusters):
    return SantaMemory.of_clusters(torch.from_numpy(golden["memory"]), clusters)


@pytest.fixture(scope="module")
def audio(golden):
    return torch.from_numpy(golden["audio"])


def sizes_chosen(golden):
    return np.bincount(golden["kmeans_assign"])[golden["santa_cluster"]]


def test_kmeans_from_the_same_start(golden, clusters):
    assert_near(clusters.centroids_KC, golden["kmeans_means"], TOLERANCE, "k-means means")
    np.testing.assert_array_equal(clusters.assignment_N, golden["kmeans_assign"])


def test_the_same_clusters_are_chosen(golden, memory, audio):
    chosen = memory.nearest_clusters(audio)

    assert [len(rows) for rows in chosen] == list(sizes_chosen(golden))
    for rows, cluster in zip(chosen, golden["santa_cluster"], strict=True):
        np.testing.assert_array_equal(rows, golden["memory"][golden["kmeans_assign"] == cluster])


def test_upstreams_code(golden, memory, audio, options):
    assert_near(
        transfer_as_upstream(memory, audio, **options),
        golden["santa_kmeans"],
        TOLERANCE,
        "upstream, clusters",
    )


def test_upstreams_code_with_its_noise(golden, memory, audio, options):
    moved = transfer_as_upstream(
        memory, audio, **options, noise_variance=0.015, noise_BLC=torch.from_numpy(golden["noise"])
    )

    assert_near(moved, golden["santa_kmeans_noise"], TOLERANCE, "upstream, clusters and noise")


def test_upstreams_code_without_clusters(golden, audio, options):
    rows = torch.from_numpy(golden["memory"])
    flat = SantaMemory.of_clusters(rows, kmeans(rows, num_clusters=1, num_iterations=10))

    assert_near(
        transfer_as_upstream(flat, audio, **options), golden["santa_flat"], TOLERANCE, "upstream, flat"
    )


def test_upstreams_code_on_normalised_audio(golden, memory, audio, options):
    moved = transfer_as_upstream(memory, normalize(audio, dim=-1), **options)

    assert_near(moved, golden["santa_kmeans_unit_audio"], TOLERANCE, "upstream, clusters, unit audio")


def test_the_paper_is_upstreams_code_on_normalised_audio_without_filling_up(golden, memory, audio, options):
    moved = memory.transfer(audio, **options)
    expected = normalize(torch.from_numpy(golden["santa_kmeans_unit_audio"]), dim=-1)

    # one row repeated weighs as one row; some rows repeated weigh more than they should
    unit_clusters = memory.nearest_clusters(normalize(audio, dim=-1))
    same = [len(rows) == 1 or len(rows) >= options["num_neighbours"] for rows in unit_clusters]
    assert any(same)
    assert_near(moved[same], expected[same], TOLERANCE, "paper, clusters not filled up")
    for row in range(len(audio)):
        own = {**options, "num_neighbours": min(options["num_neighbours"], len(unit_clusters[row]))}
        alone = transfer_as_upstream(memory, normalize(audio[row : row + 1], dim=-1), **own)
        assert_near(moved[row], normalize(alone, dim=-1)[0], TOLERANCE, f"paper, row {row}")
