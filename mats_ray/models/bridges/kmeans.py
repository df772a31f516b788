"""Lloyd's K-means on a set of embeddings: seeded, k-means++ start, chunked, deterministic.

Shapes: N rows, n rows of one chunk, C dim, K clusters.

Rows may be float16 and many: beside them memory holds a few chunks and vectors of length N, never N x K and
never a second copy of the rows. One seed gives one result at any chunk size: distances and sums run in
float64, and a row equally far from two centroids, up to rounding, belongs to the first. (A GPU adds in
another order: there the last bit of a centroid may differ from run to run.)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ROWS = 512
"""Rows held in float64 and compared with all centroids at a time; as many as stay in a processor's cache."""

MAX_START_ROWS = 65_536
"""The k-means++ start passes over its rows K times, so it uses a sample of this size at most."""

_TIE = 1e-10
"""Distances that differ by less than this part of what they are computed from are equal."""


@dataclass(frozen=True, slots=True)
class KMeansResult:
    """Centroids, and the cluster of each row."""

    centroids_KC: Tensor
    assignment_N: Tensor


def kmeans(
    rows_NC: Tensor,
    *,
    num_clusters: int,
    num_iterations: int,
    seed: int = 0,
    initial_rows_K: Tensor | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> KMeansResult:
    """Cluster rows by squared Euclidean distance.

    Every iteration assigns rows to the nearest centroid and sets each centroid to the plain mean of its rows;
    an empty cluster keeps its centroid. A last assignment uses the final centroids.

    Args:
        rows_NC: (N, C) of any float type.
        num_clusters: K, at most N.
        num_iterations: Updates of the centroids.
        seed: Seed of the k-means++ start.
        initial_rows_K: Row indices to start from instead (upstream's random start, for comparison).
        chunk_rows: Number of rows compared at a time; changes memory and speed only.

    Returns:
        Centroids (K, C) float32 and assignment (N,) int64.

    Raises:
        ValueError: K is below 1 or above N.
    """
    if not 1 <= num_clusters <= len(rows_NC):
        raise ValueError(
            f"num_clusters={num_clusters} must lie between 1 and the number of rows, {len(rows_NC)}"
        )
    if initial_rows_K is None:
        initial_rows_K = plus_plus_start(rows_NC, num_clusters=num_clusters, seed=seed, chunk_rows=chunk_rows)
    centroids_KC = rows_NC[initial_rows_K].float()
    for _ in range(num_iterations):
        assignment_N = assign(rows_NC, centroids_KC, chunk_rows=chunk_rows)
        centroids_KC = _means(rows_NC, assignment_N, centroids_KC, chunk_rows=chunk_rows)
    return KMeansResult(centroids_KC, assign(rows_NC, centroids_KC, chunk_rows=chunk_rows))


class Centroids:
    """Centroids (K, C) to compare rows with, again and again.

    The nearest one is that of float64. Most rows are decided in float32: those whose second nearest centroid
    is further away than rounding can account for.
    """

    def __init__(self, centroids_KC: Tensor) -> None:
        self._exact_KC, self._points_KC = centroids_KC.double(), centroids_KC.float()
        self._exact_square_K = self._exact_KC.square().sum(dim=1)
        self._square_K = self._exact_square_K.float()
        self._norm = self._square_K.max().sqrt()

    def nearest(self, rows_nC: Tensor) -> Tensor:
        """Return the index of each row's nearest centroid, the first of equally near ones: (n,) int64."""
        row_nC = rows_nC.float()
        # ||x - p||^2 without ||x||^2, the same for all p
        score_nK = torch.addmm(self._square_K, row_nC, self._points_KC.T, alpha=-2)
        lowest_n, nearest_n = score_nK.min(dim=1)
        rounding_n = _score_rounding(row_nC.shape[1]) * self._norm * (row_nC.norm(dim=1) + self._norm)
        reach_n = lowest_n + 2 * rounding_n + torch.finfo(torch.float32).tiny
        num_near_n = (score_nK <= reach_n[:, None]).sum(dim=1)  # none where there is NaN
        doubtful = (num_near_n != 1).nonzero()[:, 0]
        if len(doubtful):
            nearest_n[doubtful] = self._nearest_in_float64(rows_nC[doubtful])
        return nearest_n

    def _nearest_in_float64(self, rows_nC: Tensor) -> Tensor:
        score_nK = self._exact_square_K - 2 * rows_nC.double() @ self._exact_KC.T
        tie_n1 = _TIE * (score_nK.abs().amax(dim=1, keepdim=True) + self._exact_square_K.max())
        is_nearest_nK = score_nK <= score_nK.amin(dim=1, keepdim=True) + tie_n1
        return is_nearest_nK.to(torch.uint8).argmax(dim=1)


def assign(rows_NC: Tensor, centroids_KC: Tensor, *, chunk_rows: int = CHUNK_ROWS) -> Tensor:
    """Return the index of the nearest centroid of each row, the first of equally near ones: (N,) int64."""
    centroids = Centroids(centroids_KC)
    return torch.cat([centroids.nearest(rows_nC) for rows_nC in rows_NC.split(chunk_rows)])


def _score_rounding(dim: int) -> float:
    """Bound the error of a float32 score s - 2 x.p, as a part of ||p|| (||x|| + ||p||).

    A dot product of C terms, summed in any order, is off by at most C u ||x|| ||p||, u = 2^-24 (Higham,
    Accuracy and Stability of Numerical Algorithms, section 3.1); here it counts twice, and s is one, too.
    """
    return 2 * (dim + 4) * 2.0**-24


def plus_plus_start(rows_NC: Tensor, *, num_clusters: int, seed: int, chunk_rows: int = CHUNK_ROWS) -> Tensor:
    """Draw K row indices, each with probability proportional to the squared distance to those before it.

    (Arthur and Vassilvitskii, 2007.) Rows equal to a chosen one have probability zero; when only such rows
    are left, the first unchosen ones follow. Of many rows a seeded sample is used.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    sample_size = max(MAX_START_ROWS, num_clusters)
    if len(rows_NC) > sample_size:
        sample_S = torch.randperm(len(rows_NC), generator=generator)[:sample_size].sort().values
        sample_S = sample_S.to(rows_NC.device)
        return sample_S[_draw_start(rows_NC[sample_S], num_clusters, generator, chunk_rows)]
    return _draw_start(rows_NC, num_clusters, generator, chunk_rows)


def _draw_start(rows_NC: Tensor, num_clusters: int, generator: torch.Generator, chunk_rows: int) -> Tensor:
    chosen = [int(torch.randint(len(rows_NC), (1,), generator=generator))]
    nearest_N = _distances_to(rows_NC, chosen[0], chunk_rows)
    for _ in range(num_clusters - 1):
        cumulative_N = nearest_N.cumsum(0)
        if cumulative_N[-1] <= 0:
            already = set(chosen)
            chosen += [row for row in range(len(rows_NC)) if row not in already][: num_clusters - len(chosen)]
            break
        point = torch.rand(1, generator=generator, dtype=torch.float64).to(rows_NC.device) * cumulative_N[-1]
        row = min(int(torch.searchsorted(cumulative_N, point, right=True)), len(rows_NC) - 1)
        chosen.append(row)
        nearest_N = torch.minimum(nearest_N, _distances_to(rows_NC, row, chunk_rows))
    return torch.tensor(chosen, device=rows_NC.device)


def _distances_to(rows_NC: Tensor, row: int, chunk_rows: int) -> Tensor:
    point_C = rows_NC[row].double()
    return torch.cat([(chunk_nC - point_C).square().sum(dim=1) for chunk_nC in _chunks(rows_NC, chunk_rows)])


def _means(rows_NC: Tensor, assignment_N: Tensor, old_KC: Tensor, *, chunk_rows: int) -> Tensor:
    sums_KC = torch.zeros(old_KC.shape, dtype=torch.float64, device=rows_NC.device)
    chunks = zip(_chunks(rows_NC, chunk_rows), assignment_N.split(chunk_rows), strict=True)
    for chunk_nC, assignment_n in chunks:
        sums_KC.index_add_(0, assignment_n, chunk_nC)
    counts_K = torch.bincount(assignment_N, minlength=len(old_KC))
    means_KC = (sums_KC / counts_K.clamp_min(1)[:, None]).float()
    return torch.where(counts_K[:, None] > 0, means_KC, old_KC)


def _chunks(rows_NC: Tensor, chunk_rows: int) -> Iterator[Tensor]:
    """Yield float64 copies, one chunk at a time."""
    return (chunk_nC.double() for chunk_nC in rows_NC.split(chunk_rows))
