"""K-means on any rows: one result at any chunk size, and what Lloyd's algorithm guarantees."""

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mats_ray.models.bridges.kmeans import kmeans


@st.composite
def problems(draw):
    """Rows on a grid, so that equal rows and equal distances are common, and a number of clusters."""
    num_rows, dim = draw(st.integers(1, 40)), draw(st.integers(1, 4))
    values = draw(st.lists(st.integers(-3, 3), min_size=num_rows * dim, max_size=num_rows * dim))
    rows = torch.tensor(values, dtype=torch.float32).view(num_rows, dim) * draw(
        st.sampled_from([1.0, 0.1, 1 / 3])
    )
    return rows, draw(st.integers(1, num_rows)), draw(st.integers(0, 5))


@settings(deadline=None, max_examples=150)
@given(problems(), st.integers(1, 50), st.integers(1, 50))
def test_the_chunk_size_changes_nothing(problem, one, other):
    rows, num_clusters, seed = problem

    first, second = (
        kmeans(rows, num_clusters=num_clusters, num_iterations=10, seed=seed, chunk_rows=size)
        for size in (one, other)
    )

    assert torch.equal(first.centroids_KC, second.centroids_KC)
    assert torch.equal(first.assignment_N, second.assignment_N)


@settings(deadline=None, max_examples=100)
@given(problems())
def test_every_row_is_with_its_nearest_centroid(problem):
    rows, num_clusters, seed = problem

    result = kmeans(rows, num_clusters=num_clusters, num_iterations=10, seed=seed)

    distance = torch.cdist(rows.double(), result.centroids_KC.double())
    own = distance.gather(1, result.assignment_N[:, None])[:, 0]
    assert (own <= distance.amin(dim=1) + 1e-5).all()
    assert result.centroids_KC.isfinite().all()


@settings(deadline=None, max_examples=60)
@given(problems())
def test_more_iterations_never_fit_worse(problem):
    rows, num_clusters, seed = problem

    def spread(num_iterations):
        result = kmeans(rows, num_clusters=num_clusters, seed=seed, num_iterations=num_iterations)
        return float((rows - result.centroids_KC[result.assignment_N]).double().square().sum())

    spreads = [spread(num_iterations) for num_iterations in range(4)]
    assert all(later <= earlier + 1e-4 for earlier, later in pairwise(spreads))
