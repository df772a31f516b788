"""Santa: move an audio embedding towards the texts it resembles (paper section 3.4, Eq. 6-7).

Shapes: B audio batch, C CLAP dim, N memory rows, K clusters, L neighbours, M rows of the largest cluster.

Differs from upstream (docs/fidelity.md): noise is drawn once when the memory is built, never at inference;
the audio embedding is normalised first; a cluster smaller than L uses what it has instead of repeating a row.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from mats_ray.errors import ModelError
from mats_ray.models.kmeans import kmeans, squared_distances
from mats_ray.models.noise import inject_noise


@dataclass(frozen=True, eq=False)
class SantaMemory:
    """Noised text embeddings, sorted by cluster."""

    embeddings_NC: Tensor
    offsets_K1: Tensor
    """Cluster k owns rows offsets[k] to offsets[k + 1]; (K + 1,) int64."""
    centroids_KC: Tensor
    provenance: dict[str, str] = field(default_factory=dict)
    """What the memory was made of: CLAP identity, noise, seed. Kept in the file's metadata."""

    @property
    def dim(self) -> int:
        """C."""
        return self.embeddings_NC.shape[1]

    @classmethod
    def build(
        cls,
        embeddings: Tensor,
        *,
        num_clusters: int = 100,
        noise_variance: float = 0.015,
        num_iterations: int = 10,
        seed: int = 0,
        provenance: dict[str, str] | None = None,
    ) -> "SantaMemory":
        """Noise text embeddings once (m_i = E_T(T_i) + noise), cluster them, sort them by cluster.

        Args:
            embeddings: (N, C) text embeddings.
            num_clusters: K, at most N.
            noise_variance: Per component; 0 keeps the embeddings as they are, normalised.
            num_iterations: Of K-means.
            seed: Of the noise and of K-means.
            provenance: Free text pairs stored with the memory.

        Raises:
            ValueError: K is above N.
        """
        generator = torch.Generator().manual_seed(seed)
        noised_NC = inject_noise(embeddings, variance=noise_variance, generator=generator)
        clusters = kmeans(noised_NC, num_clusters=num_clusters, num_iterations=num_iterations, seed=seed)
        order_N = torch.argsort(clusters.assignment_N, stable=True)
        counts_K = torch.bincount(clusters.assignment_N, minlength=num_clusters)
        offsets_K1 = torch.cat([counts_K.new_zeros(1), counts_K.cumsum(0)])
        return cls(noised_NC[order_N], offsets_K1, clusters.centroids_KC, dict(provenance or {}))

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
        tensors = {
            "embeddings": self.embeddings_NC.contiguous(),
            "offsets": self.offsets_K1,
            "centroids": self.centroids_KC.contiguous(),
        }
        save_file(tensors, str(path), metadata={"format": "mats_santa_memory", **self.provenance})

    @classmethod
    def load(cls, path: str | Path) -> "SantaMemory":
        """Read what ``save`` wrote.

        Raises:
            ModelError: The file is missing, cut off, or not a Santa memory.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except FileNotFoundError:
            raise ModelError(f"no Santa memory at {path}; make one with `mats memory`") from None
        except (SafetensorError, OSError) as error:
            raise ModelError(f"the Santa memory {path} cannot be read: {error}") from error
        if metadata.pop("format", None) != "mats_santa_memory" or set(tensors) != {
            "embeddings",
            "offsets",
            "centroids",
        }:
            raise ModelError(f"{path} is not a Santa memory; it holds {sorted(tensors)}")
        return cls(tensors["embeddings"], tensors["offsets"], tensors["centroids"], metadata)

    def to(self, device: torch.device | str) -> "SantaMemory":
        """Return a copy on another device."""
        moved = (t.to(device) for t in (self.embeddings_NC, self.offsets_K1, self.centroids_KC))
        return SantaMemory(*moved, self.provenance)

    def transfer(
        self,
        audio_embeddings: Tensor,
        *,
        num_neighbours: int = 32,
        temperature: float = 0.1,
        mix: float = 0.3,
    ) -> Tensor:
        """Move audio embeddings towards their nearest texts.

        Eq. 6: the cluster whose centroid is nearest to z, in it the L members nearest to z.
        Eq. 7: w = softmax(z . m_i / tau); z' = (1 - lambda) z + lambda sum_i w_i m_i; then normalise.

        Args:
            audio_embeddings: (B, C); normalised here first.
            num_neighbours: L; a smaller cluster gives all it has.
            temperature: tau.
            mix: lambda.

        Returns:
            (B, C) float32, L2-normalised.

        Raises:
            ValueError: The embeddings are of another width than the memory.
        """
        if audio_embeddings.shape[-1] != self.dim:
            raise ValueError(
                f"embeddings are {audio_embeddings.shape[-1]}-d, the Santa memory is {self.dim}-d"
            )
        audio_BC = normalize(audio_embeddings.float(), dim=-1)
        members_BM, valid_BM = self._cluster_rows(self._nearest_cluster(audio_BC))
        pool_BMC = self.embeddings_NC[members_BM]
        similarity_BM = torch.einsum("bc,bmc->bm", audio_BC, pool_BMC).masked_fill(~valid_BM, -torch.inf)
        # rows are unit vectors, so the nearest by distance are the most similar ones
        top_BL, index_BL = similarity_BM.topk(min(num_neighbours, pool_BMC.shape[1]), dim=1)
        weights_BL = (top_BL / temperature).softmax(dim=1)
        text_BC = torch.einsum(
            "bl,blc->bc", weights_BL, pool_BMC.gather(1, index_BL[..., None].expand(-1, -1, self.dim))
        )
        return normalize((1 - mix) * audio_BC + mix * text_BC, dim=-1)

    def _nearest_cluster(self, audio_BC: Tensor) -> Tensor:
        """Index of the nearest non-empty cluster, (B,)."""
        distance_BK = squared_distances(audio_BC, self.centroids_KC)
        return distance_BK.masked_fill(self.offsets_K1.diff() == 0, torch.inf).argmin(dim=1)

    def _cluster_rows(self, cluster_B: Tensor) -> tuple[Tensor, Tensor]:
        """Row indices of each chosen cluster, padded to the largest, and which of them are real."""
        start_B1 = self.offsets_K1[cluster_B, None]
        size_B1 = self.offsets_K1[cluster_B + 1, None] - start_B1
        slot_1M = torch.arange(int(size_B1.max()), device=cluster_B.device)[None]
        valid_BM = slot_1M < size_B1
        return torch.where(valid_BM, start_B1 + slot_1M, start_B1), valid_BM
