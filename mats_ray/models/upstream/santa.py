"""Santa as upstream's released code computes it (``santa.compat: upstream``).

Shapes: B audio batch, C CLAP dim, M rows of one cluster, L neighbours.

Its flat mode, without clusters, is a memory of one cluster.
"""

import torch
from torch import Tensor

from mats_ray.models.noise import add_noise
from mats_ray.models.santa import SantaMemory, soft_weights

_MAX_FILLED = 1024
"""Number of rows up to which a small cluster is filled up; upstream's own L is 32."""


def transfer_as_upstream(
    memory: SantaMemory,
    audio_embeddings: Tensor,
    *,
    num_neighbours: int,
    temperature: float,
    mix: float,
    noise_variance: float = 0.0,
    noise_BLC: Tensor | None = None,
) -> Tensor:
    """Move audio embeddings towards their nearest texts, as upstream does.

    Args:
        memory: Upstream's is built without noise.
        audio_embeddings: (B, C), not normalised. MS-CLAP's have a norm of about 32: Santa has little effect.
        num_neighbours: L; a smaller cluster is filled up with copies of its first row, to 1024 rows at most.
        temperature: tau; upstream's factor of 10 is a tau of 0.1.
        mix: lambda.
        noise_variance: Variance of noise on the neighbours; 0 leaves them as they are.
        noise_BLC: Its standard normal draw. By default it is the same for every embedding and call, so that
            answers stay reproducible (upstream draws afresh).

    Returns:
        (B, C) float32, not normalised: the connector does that.

    Raises:
        ValueError: The embeddings are of another width than the memory.
    """
    audio_BC = audio_embeddings.float()
    num_neighbours = min(num_neighbours, max(int(memory.offsets_K1.diff().max()), _MAX_FILLED))
    if noise_variance and noise_BLC is None:
        noise_BLC = _fixed_draw(num_neighbours, memory.dim).to(audio_BC.device).expand(len(audio_BC), -1, -1)
    moved_BC = torch.empty_like(audio_BC)
    for row, pool_MC in enumerate(memory.nearest_clusters(audio_BC)):
        neighbours_LC = _nearest(audio_BC[row], _filled_up(pool_MC, num_neighbours), num_neighbours)
        if noise_variance and noise_BLC is not None:
            neighbours_LC = add_noise(neighbours_LC, noise_BLC[row], variance=noise_variance)
        weights_L = _weights(neighbours_LC @ audio_BC[row], temperature)
        moved_BC[row] = (1 - mix) * audio_BC[row] + mix * weights_L @ neighbours_LC
    return moved_BC


def _weights(similarity_L: Tensor, temperature: float) -> Tensor:
    """Weigh similarities of embeddings of any length: below 0 none of them leaves float32."""
    return soft_weights(similarity_L - similarity_L.max(), temperature)


def _filled_up(pool_MC: Tensor, num_rows: int) -> Tensor:
    return torch.cat([pool_MC, pool_MC[:1].expand(max(0, num_rows - len(pool_MC)), -1)])


def _nearest(audio_C: Tensor, pool_MC: Tensor, num_rows: int) -> Tensor:
    distance_M = (pool_MC - audio_C).square().sum(dim=1)
    return pool_MC[distance_M.topk(num_rows, largest=False).indices]


def _fixed_draw(num_rows: int, dim: int) -> Tensor:
    return torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(0))
