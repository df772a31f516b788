"""Santa: move an audio embedding towards the texts it resembles (paper section 3.4, Eq. 6-7).

Shapes: B audio batch, C CLAP dim, N memory rows, K clusters, L neighbours, M rows of one cluster.

Differs from upstream (docs/fidelity.md): noise is drawn once when the memory is built, never at inference;
the audio embedding is normalised first; a cluster smaller than L uses what it has instead of repeating a row.
``upstream.santa`` has the released code's behaviour.
"""

import json
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from mats_ray.config.model import NOISE_VARIANCE
from mats_ray.config.santa import MemoryConfig, SantaConfig
from mats_ray.errors import ModelError, abbreviated
from mats_ray.models.bridges.kmeans import Centroids, KMeansResult, kmeans
from mats_ray.models.foreign import one_error
from mats_ray.models.noise import inject_noise
from mats_ray.models.weights import NativeName, check_tensors, dim, read_safetensors, safetensors_metadata

_MEMORY, _SANTA = MemoryConfig(), SantaConfig()
"""Defaults of the numbers below."""
_FORMAT = "mats_santa_memory"
_TEMPERATURES = (1e-30, 1e30)
"""Bounds of the temperature: beyond them the weights stay the same, but numbers leave float32."""
_CHUNK_ROWS = 65_536  # noised at a time: of millions of rows there is one copy beside those given


@dataclass(frozen=True, eq=False)
class SantaMemory:
    """Noised text embeddings, sorted by cluster."""

    embeddings_NC: Tensor
    offsets_K1: Tensor
    """Cluster k owns rows offsets[k] to offsets[k + 1]; (K + 1,) int64."""
    centroids_KC: Tensor
    provenance: dict[str, str] = field(default_factory=dict)
    """Origin of the memory: CLAP identity, noise, seed. Stored in the file's metadata."""

    @property
    def dim(self) -> int:
        """C."""
        return self.embeddings_NC.shape[1]

    @classmethod
    def build(
        cls,
        embeddings: Tensor,
        *,
        num_clusters: int = _MEMORY.num_clusters,
        noise_variance: float = NOISE_VARIANCE,
        num_iterations: int = _MEMORY.num_iterations,
        seed: int = 0,
        provenance: dict[str, str] | None = None,
    ) -> "SantaMemory":
        """Noise text embeddings once (m_i = E_T(T_i) + noise), cluster them, sort them by cluster.

        Args:
            embeddings: (N, C) text embeddings.
            num_clusters: K, at most N.
            noise_variance: Variance per component; 0 keeps the embeddings as they are, normalised.
            num_iterations: Number of K-means iterations.
            seed: Seed of the noise and of K-means.
            provenance: Free text pairs stored with the memory.

        Raises:
            ValueError: K is above N.

        Example:
            >>> memory = SantaMemory.build(torch.eye(8), num_clusters=2)
            >>> memory.transfer(torch.ones(1, 8), num_neighbours=4).shape
            torch.Size([1, 8])
        """
        generator = torch.Generator().manual_seed(seed)
        noised_NC = torch.empty(embeddings.shape, dtype=torch.float32, device=embeddings.device)
        for clean_nC, out_nC in zip(embeddings.split(_CHUNK_ROWS), noised_NC.split(_CHUNK_ROWS), strict=True):
            out_nC.copy_(inject_noise(clean_nC, variance=noise_variance, generator=generator))
        clusters = kmeans(noised_NC, num_clusters=num_clusters, num_iterations=num_iterations, seed=seed)
        return cls.of_clusters(noised_NC, clusters, provenance=provenance)

    @classmethod
    def of_clusters(
        cls, rows_NC: Tensor, clusters: KMeansResult, *, provenance: dict[str, str] | None = None
    ) -> "SantaMemory":
        """Sort rows by cluster as they are; inside a cluster they keep their order."""
        order_N = torch.argsort(clusters.assignment_N, stable=True)
        counts_K = torch.bincount(clusters.assignment_N, minlength=len(clusters.centroids_KC))
        offsets_K1 = torch.cat([counts_K.new_zeros(1), counts_K.cumsum(0)])
        return cls(rows_NC[order_N], offsets_K1, clusters.centroids_KC, dict(provenance or {}))

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
        tensors = {
            "embeddings": self.embeddings_NC.contiguous(),
            "offsets": self.offsets_K1,
            "centroids": self.centroids_KC.contiguous(),
        }
        # One entry: safetensors writes several in random order, and equal memories shall be equal files.
        save_file(tensors, str(path), metadata={_FORMAT: json.dumps(self.provenance, sort_keys=True)})

    @classmethod
    def load(cls, path: str | Path) -> "SantaMemory":
        """Read a file written by ``save``.

        Raises:
            ModelError: The file is missing, cut off, or not a Santa memory: see ``check_tensors``.
        """
        path = Path(path)
        if not path.is_file():
            raise ModelError(f"no Santa memory at {path}; make one with `mats memory`")
        tensors, metadata = read_safetensors([path]), safetensors_metadata(path)
        if _FORMAT not in metadata:
            raise ModelError(f"{path} is not a Santa memory; it holds {abbreviated(sorted(tensors))}")
        num_rows, width = dim(tensors, "embeddings", 0, default=1), dim(tensors, "embeddings", 1, default=1)
        num_clusters = dim(tensors, "centroids", 0, default=1)
        with torch.device("meta"):
            expected = {
                NativeName("embeddings"): torch.empty(num_rows, width),
                NativeName("offsets"): torch.empty(num_clusters + 1, dtype=torch.int64),
                NativeName("centroids"): torch.empty(num_clusters, width),
            }
        check_tensors(expected, tensors, source=f"the Santa memory {path}")
        # cloned into memory aligned as torch aligns: the last bit of a product depends on it
        embeddings_NC, centroids_KC = (tensors[name].float().clone() for name in ("embeddings", "centroids"))
        offsets_K1 = tensors["offsets"].clone()
        if not (offsets_K1[0] == 0 < num_rows == offsets_K1[-1] and bool((offsets_K1.diff() >= 0).all())):
            raise ModelError(f"the Santa memory {path} has offsets that do not divide its {num_rows} rows")
        with one_error(f"the provenance of the Santa memory {path}"):
            provenance = dict(json.loads(metadata[_FORMAT]))
        return cls(embeddings_NC, offsets_K1, centroids_KC, provenance)

    def to(self, device: torch.device | str) -> "SantaMemory":
        """Return a copy on another device."""
        return SantaMemory(
            self.embeddings_NC.to(device),
            self.offsets_K1.to(device),
            self.centroids_KC.to(device),
            self.provenance,
        )

    def transfer(
        self,
        audio_embeddings: Tensor,
        *,
        num_neighbours: int = _SANTA.num_neighbours,
        temperature: float = _SANTA.temperature,
        mix: float = _SANTA.mix,
    ) -> Tensor:
        """Move audio embeddings towards their nearest texts.

        Eq. 6: the cluster whose centroid is nearest to z, in it the L members nearest to z.
        Eq. 7: w = softmax(z . m_i / tau); z' = (1 - lambda) z + lambda sum_i w_i m_i; then normalise.

        Args:
            audio_embeddings: (B, C); normalised here first.
            num_neighbours: L; all members of the cluster if it has fewer.
            temperature: tau.
            mix: lambda.

        Returns:
            (B, C) float32, L2-normalised. A row does not depend on the others.

        Raises:
            ValueError: The embeddings are of another width than the memory.
        """
        audio_BC = normalize(audio_embeddings.float(), dim=-1)
        if not len(audio_BC):
            return audio_BC
        first_B, size_B = self._nearest_clusters(audio_BC)
        order_B = first_B.argsort()  # those of one cluster in a row: it stays in the processor's cache
        sorted_BC, first_B, size_B = (t.index_select(0, order_B) for t in (audio_BC, first_B, size_B))
        similarity_BM = self._similarities(sorted_BC, first_B, size_B)
        top_BL, index_BL = similarity_BM.topk(min(num_neighbours, similarity_BM.shape[1]), sorted=False)
        # where a cluster has fewer, the weight is 0 and any row of it will do
        rows_BL = first_B[:, None] + index_BL.minimum(size_B[:, None] - 1)
        weights_BL = soft_weights(top_BL, temperature)
        text_BC = embedding_bag(rows_BL, self.embeddings_NC, mode="sum", per_sample_weights=weights_BL)
        moved_BC = sorted_BC.lerp_(text_BC, mix)
        moved_BC.div_(moved_BC.norm(dim=-1, keepdim=True).clamp_min_(1e-12))
        return moved_BC.index_select(0, order_B.argsort())

    @cached_property
    def _filled(self) -> "_FilledClusters":
        sizes_K = self.offsets_K1.diff()
        filled_F = sizes_K.nonzero()[:, 0]
        return _FilledClusters(
            first_F=self.offsets_K1[filled_F],
            size_F=sizes_K[filled_F],
            largest=int(sizes_K.max()),
            centroids=Centroids(self.centroids_KC[filled_F]),
        )

    def nearest_clusters(self, audio_BC: Tensor) -> list[Tensor]:
        """Return the rows (M, C) of the non-empty cluster nearest to each embedding, without copying them.

        Raises:
            ValueError: The embeddings are of another width than the memory.
        """
        spans = zip(*(found_B.tolist() for found_B in self._nearest_clusters(audio_BC)), strict=True)
        return [self.embeddings_NC[first : first + size] for first, size in spans]

    def _nearest_clusters(self, audio_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Return first row and number of rows of the non-empty cluster nearest to each embedding."""
        if audio_BC.shape[-1] != self.dim:
            raise ValueError(f"embeddings are {audio_BC.shape[-1]}-d, the Santa memory is {self.dim}-d")
        nearest_B = self._filled.centroids.nearest(audio_BC)
        return self._filled.first_F.index_select(0, nearest_B), self._filled.size_F.index_select(0, nearest_B)

    def _similarities(self, audio_BC: Tensor, first_B: Tensor, size_B: Tensor) -> Tensor:
        """Compare embeddings with their clusters: (B, M), minus infinity where one ends.

        All are unit vectors, so the most similar members are the nearest ones.

        A sampled product computes the members' dot products one by one. Matrix products, of a row or of all
        rows of a cluster, differ in the last bits with the rows beside; M is that of the largest cluster of
        all for the same reason.
        """
        ends_B1 = torch.cat([size_B.new_zeros(1), size_B.cumsum(0)])
        num_members = int(ends_B1[-1])
        skipped_B = first_B - ends_B1[:-1]
        members = torch.arange(num_members, device=size_B.device) + skipped_B.repeat_interleave(size_B)
        zeros, size = audio_BC.new_zeros(num_members), (len(audio_BC), len(self.embeddings_NC))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
            members_BN = torch.sparse_csr_tensor(ends_B1, members, zeros, size, check_invariants=False)
        found = torch.sparse.sampled_addmm(members_BN, audio_BC, self.embeddings_NC.T, beta=0.0)
        is_member_BM = torch.arange(self._filled.largest, device=size_B.device) < size_B[:, None]
        similarity_BM = audio_BC.new_full(is_member_BM.shape, -torch.inf)
        return similarity_BM.masked_scatter_(is_member_BM, found.values())


@dataclass(frozen=True, eq=False)
class _FilledClusters:
    """The F clusters that have members: what every transfer needs to know of them."""

    first_F: Tensor
    size_F: Tensor
    largest: int
    centroids: Centroids


def soft_weights(similarity_BL: Tensor, temperature: float) -> Tensor:
    """softmax(similarity / temperature): low temperatures leave the most similar, high ones weigh all alike.

    Args:
        similarity_BL: (..., L), below 1e8; minus infinity gets the weight 0.
        temperature: Any positive number.
    """
    lowest, highest = _TEMPERATURES
    temperature = min(max(temperature, lowest), highest)
    return (similarity_BL / temperature).softmax(dim=-1)
