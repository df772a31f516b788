"""K-means is Lloyd's, seeded, and one result whatever the chunks."""

import pytest
import torch
from torch.nn.functional import normalize

from mats_ray.models.bridges import kmeans as module
from mats_ray.models.bridges.kmeans import assign, kmeans, plus_plus_start

DIRECT = "donot_use_mm_for_euclid_dist"


def rows(num_rows=300, dim=8, seed=0):
    return normalize(torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def reference(x, start, num_iterations):
    centroids = x[start].clone()
    for step in range(num_iterations + 1):
        nearest = ((x[:, None] - centroids[None]) ** 2).sum(-1).argmin(1)
        if step < num_iterations:
            for k in nearest.unique():
                centroids[k] = x[nearest == k].mean(0)
    return centroids, nearest


def test_it_is_lloyds_algorithm():
    x, start = rows(), torch.arange(0, 300, 40)

    result = kmeans(x, num_clusters=8, num_iterations=6, initial_rows_K=start)

    centroids, nearest = reference(x, start, 6)
    torch.testing.assert_close(result.centroids_KC, centroids)
    assert torch.equal(result.assignment_N, nearest)


@pytest.mark.parametrize("chunk_rows", [1, 7, 64, 299, 300, 1000])
def test_the_result_does_not_depend_on_the_chunks(chunk_rows):
    whole = kmeans(rows(), num_clusters=10, num_iterations=10, seed=4)

    chunked = kmeans(rows(), num_clusters=10, num_iterations=10, seed=4, chunk_rows=chunk_rows)

    assert torch.equal(chunked.centroids_KC, whole.centroids_KC)
    assert torch.equal(chunked.assignment_N, whole.assignment_N)


def test_half_precision_rows_are_clustered_without_a_copy_of_them_all(monkeypatch):
    sizes = []
    chunks = module._chunks

    def spy(rows_NC, chunk_rows):
        for chunk in chunks(rows_NC, chunk_rows):
            sizes.append(len(chunk))
            yield chunk

    monkeypatch.setattr(module, "_chunks", spy)
    result = kmeans(rows().half(), num_clusters=5, num_iterations=10, chunk_rows=50)

    assert max(sizes) == 50
    assert result.centroids_KC.dtype == torch.float32
    assert torch.equal(
        result.assignment_N, kmeans(rows().half().float(), num_clusters=5, num_iterations=10).assignment_N
    )


def test_a_row_between_two_centroids_belongs_to_the_first():
    centroids = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])

    assert assign(torch.tensor([[0.0, 0.3], [2.0, 0.0]]), centroids).tolist() == [0, 0]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_nearest_centroid_is_that_of_float64_where_float32_cannot_tell(scale):
    first, second = scale * rows(2, dim=256)
    normal = (second - first).double()
    across = torch.tensor([-1e-5, -1e-7, -1e-8, 1e-8, 1e-7, 1e-5], dtype=torch.float64)
    along = 3 * scale * rows(200, dim=256, seed=1).double()
    along -= (along @ normal)[:, None] * normal / normal.square().sum()
    x = ((first + second) / 2 + along[:, None] + across[:, None] * normal).flatten(0, 1).float()

    nearest = assign(x, torch.stack([first, second]))

    centroids = torch.stack([first, second])
    squares_N2 = torch.cdist(x.double(), centroids.double(), compute_mode=DIRECT).square()
    apart = squares_N2.diff(dim=1).abs()[:, 0] > 1e-9 * squares_N2.amax(dim=1)  # no tie
    in_float32 = (centroids.square().sum(1) - 2 * x @ centroids.T).argmin(1)
    assert torch.equal(nearest[apart], squares_N2.argmin(1)[apart])
    assert not torch.equal(in_float32[apart], squares_N2.argmin(1)[apart])


def test_an_empty_cluster_keeps_its_centroid():
    x = torch.tensor([[0.0], [0.0], [1.0]])

    result = kmeans(x, num_clusters=3, num_iterations=10, initial_rows_K=torch.tensor([0, 1, 2]))

    assert result.centroids_KC.tolist() == [[0.0], [0.0], [1.0]]
    assert result.assignment_N.tolist() == [0, 0, 2]


def test_as_many_clusters_as_rows_give_each_row_its_own():
    result = kmeans(rows(20), num_clusters=20, num_iterations=10)

    assert sorted(result.assignment_N.tolist()) == list(range(20))


@pytest.mark.parametrize("num_clusters", [0, 301])
def test_more_clusters_than_rows_or_none_are_refused(num_clusters):
    with pytest.raises(ValueError, match=f"num_clusters={num_clusters} must lie between 1 and"):
        kmeans(rows(), num_clusters=num_clusters, num_iterations=10)


def test_the_start_is_seeded_and_has_no_row_twice():
    first, second = (plus_plus_start(rows(), num_clusters=50, seed=7) for _ in range(2))

    assert torch.equal(first, second)
    assert len(set(first.tolist())) == 50
    assert not torch.equal(first, plus_plus_start(rows(), num_clusters=50, seed=8))


def test_the_start_spreads_over_far_groups():
    groups = torch.cat([rows(100, 4, seed) * 0.01 + 10 * seed for seed in range(5)])

    for seed in range(10):
        start = plus_plus_start(groups, num_clusters=5, seed=seed)
        assert sorted((start // 100).tolist()) == [0, 1, 2, 3, 4]


def test_a_start_among_equal_rows_uses_the_first_remaining_ones():
    x = torch.tensor([[1.0], [1.0], [1.0], [2.0]])

    start = plus_plus_start(x, num_clusters=4, seed=0)

    assert sorted(start.tolist()) == [0, 1, 2, 3]


def test_of_very_many_rows_the_start_looks_at_a_sample(monkeypatch):
    monkeypatch.setattr(module, "MAX_START_ROWS", 30)

    first, second = (
        kmeans(rows(), num_clusters=10, num_iterations=10, seed=1, chunk_rows=size) for size in (300, 11)
    )

    assert torch.equal(first.assignment_N, second.assignment_N)
    assert first.assignment_N.unique().tolist() == list(range(10))
