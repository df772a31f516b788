"""Lloyd's K-means on a set of embeddings: seeded, k-means++ start, chunked, deterministic.

Shapes: N rows, C dim, K clusters.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ROWS = 16_384
"""Rows compared with all centroids at a time: bounds memory to CHUNK_ROWS x K, never N x K x C."""


@dataclass(frozen=True, slots=True)
class KMeansResult:
    """Centroids and where each row belongs."""

    centroids_KC: Tensor
    assignment_N: Tensor


def kmeans(
    rows_NC: Tensor,
    *,
    num_clusters: int,
    num_iterations: int = 10,
    seed: int = 0,
    initial_rows_K: Tensor | None = None,
) -> KMeansResult:
    """Cluster rows by squared Euclidean distance.

    Every iteration assigns rows to the nearest centroid (ties to the lower index) and sets each centroid to
    the plain mean of its rows; an empty cluster keeps its centroid. A last assignment uses the final
    centroids. Sums run in float64, so one seed gives one result at any chunk size.

    Args:
        rows_NC: (N, C) float.
        num_clusters: K, at most N.
        num_iterations: Updates of the centroids.
        seed: Of the k-means++ start.
        initial_rows_K: Row indices to start from instead (upstream's random start, for comparison).

    Returns:
        Centroids (K, C) float32 and assignment (N,) int64.

    Raises:
        ValueError: K is below 1 or above N.
    """
    if not 1 <= num_clusters <= len(rows_NC):
        raise ValueError(
            f"num_clusters={num_clusters} must lie between 1 and the number of rows, {len(rows_NC)}"
        )
    rows_NC = rows_NC.float()
    if initial_rows_K is None:
        initial_rows_K = plus_plus_start(rows_NC, num_clusters=num_clusters, seed=seed)
    centroids_KC = rows_NC[initial_rows_K].clone()
    for _ in range(num_iterations):
        centroids_KC = _means(rows_NC, assign(rows_NC, centroids_KC), centroids_KC)
    return KMeansResult(centroids_KC, assign(rows_NC, centroids_KC))


def assign(rows_NC: Tensor, centroids_KC: Tensor) -> Tensor:
    """Return the index of the nearest centroid of each row, (N,) int64."""
    nearest = [
        squared_distances(chunk_nC, centroids_KC).argmin(dim=1) for chunk_nC in rows_NC.split(CHUNK_ROWS)
    ]
    return torch.cat(nearest)


def squared_distances(rows_NC: Tensor, points_KC: Tensor) -> Tensor:
    """||x - p||^2 as (N, K), through one matrix product."""
    square_N1 = rows_NC.square().sum(dim=1, keepdim=True)
    square_K = points_KC.square().sum(dim=1)
    return (square_N1 - 2 * rows_NC @ points_KC.T + square_K).clamp_min_(0)


def plus_plus_start(rows_NC: Tensor, *, num_clusters: int, seed: int) -> Tensor:
    """Draw K row indices, each with probability proportional to the squared distance to those before it.

    (Arthur and Vassilvitskii, 2007.) Rows equal to a chosen one have probability zero; when only such rows
    are left, the first unchosen ones follow.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    first = int(torch.randint(len(rows_NC), (1,), generator=generator))
    chosen = [first]
    nearest_N = _distance_to(rows_NC, first)
    for _ in range(num_clusters - 1):
        cumulative_N = nearest_N.double().cumsum(0)
        if cumulative_N[-1] <= 0:
            taken = set(chosen)
            chosen += [row for row in range(len(rows_NC)) if row not in taken][: num_clusters - len(chosen)]
            break
        point = torch.rand(1, generator=generator, dtype=torch.float64).item() * cumulative_N[-1]
        row = min(int(torch.searchsorted(cumulative_N, point, right=True)), len(rows_NC) - 1)
        chosen.append(row)
        nearest_N = torch.minimum(nearest_N, _distance_to(rows_NC, row))
    return torch.tensor(chosen, device=rows_NC.device)


def _distance_to(rows_NC: Tensor, row: int) -> Tensor:
    return (rows_NC - rows_NC[row]).square().sum(dim=1)


def _means(rows_NC: Tensor, assignment_N: Tensor, old_KC: Tensor) -> Tensor:
    sums_KC = torch.zeros(old_KC.shape, dtype=torch.float64, device=rows_NC.device)
    for chunk_nC, chunk_n in zip(rows_NC.split(CHUNK_ROWS), assignment_N.split(CHUNK_ROWS), strict=True):
        sums_KC.index_add_(0, chunk_n, chunk_nC.double())
    counts_K = torch.bincount(assignment_N, minlength=len(old_KC))
    means_KC = (sums_KC / counts_K.clamp_min(1)[:, None]).float()
    return torch.where(counts_K[:, None] > 0, means_KC, old_KC)
