"""The mapper: one CLAP embedding becomes a prefix of LLM input vectors (upstream's exact architectures).

Shapes: B batch, C CLAP dim, D mapper width, P prefix length, S sequence (content + prefix), N heads,
H head width, L LLM dim.

Parameter names equal upstream's ``audio_mapper.*`` and ``audio_llama_proj.*``, so its weights load 1:1.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, scaled_dot_product_attention


class _Attention(nn.Module):
    """Self-attention; q, k, v without bias, output with bias, which nn.MultiheadAttention cannot express."""

    def __init__(self, dim: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_queries = nn.Linear(dim, dim, bias=False)
        self.to_keys_values = nn.Linear(dim, 2 * dim, bias=False)
        self.project = nn.Linear(dim, dim)

    def forward(self, x_BSD: Tensor) -> Tensor:
        queries_BSD = self.to_queries(x_BSD)
        keys_BSD, values_BSD = self.to_keys_values(x_BSD).chunk(2, dim=-1)
        q, k, v = (
            t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (queries_BSD, keys_BSD, values_BSD)
        )
        mixed_BSNH = scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.project(mixed_BSNH.flatten(-2))


class _FeedForward(nn.Module):
    def __init__(self, dim: int, *, ratio: int = 2) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, ratio * dim)
        self.fc2 = nn.Linear(ratio * dim, dim)

    def forward(self, x_BSD: Tensor) -> Tensor:
        return self.fc2(self.fc1(x_BSD).relu())


class _Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, *, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = _Attention(dim, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = _FeedForward(dim)

    def forward(self, x_BSD: Tensor) -> Tensor:
        x_BSD = x_BSD + self.attn(self.norm1(x_BSD))
        return x_BSD + self.mlp(self.norm2(x_BSD))


class _Transformer(nn.Module):
    def __init__(self, dim: int, *, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Block(dim, num_heads=num_heads) for _ in range(num_layers))

    def forward(self, x_BSD: Tensor) -> Tensor:
        for layer in self.layers:
            x_BSD = layer(x_BSD)
        return x_BSD  # no final norm: upstream has none


class TransformerMapper(nn.Module):
    """Expand an embedding to ``content_length`` vectors, append learned queries, return their outputs.

    (B, C) -> (B, P, D).
    """

    def __init__(
        self,
        *,
        clap_dim: int,
        hidden_dim: int,
        prefix_length: int,
        content_length: int,
        num_layers: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.clap_dim = clap_dim
        self.content_length = content_length
        self.linear = nn.Linear(clap_dim, content_length * hidden_dim)
        self.prefix_length = prefix_length
        self.prefix_const = nn.Parameter(torch.empty(prefix_length, hidden_dim))
        self.transformer = _Transformer(hidden_dim, num_heads=num_heads, num_layers=num_layers)

    def forward(self, clap_BC: Tensor) -> Tensor:
        """(B, C) -> (B, P, D)."""
        content_BSD = self.linear(clap_BC).unflatten(-1, (self.content_length, -1))
        queries_BPD = self.prefix_const.expand(len(clap_BC), -1, -1)
        mixed_BSD = self.transformer(torch.cat([content_BSD, queries_BPD], dim=1))
        # of rows with gaps between them PyTorch copies the next layer's weights once per row
        return mixed_BSD[:, self.content_length :].contiguous()


class MLPMapper(nn.Module):
    """Two linear layers with a tanh between them: upstream's mapping type "mlp".

    (B, C) -> (B, P, D).
    """

    def __init__(self, *, clap_dim: int, hidden_dim: int, prefix_length: int) -> None:
        super().__init__()
        self.clap_dim = clap_dim
        self.prefix_length = prefix_length
        width = prefix_length * hidden_dim
        self.model = nn.Sequential(nn.Linear(clap_dim, width // 2), nn.Tanh(), nn.Linear(width // 2, width))

    def forward(self, clap_BC: Tensor) -> Tensor:
        """(B, C) -> (B, P, D)."""
        return self.model(clap_BC).unflatten(-1, (self.prefix_length, -1))


class Connector(nn.Module):
    """Mapper and projection to the LLM's width, (B, C) -> (B, P, L); normalises its input, as upstream."""

    def __init__(self, mapper: nn.Module, *, hidden_dim: int, llm_dim: int) -> None:
        super().__init__()
        self.audio_mapper = mapper
        self.audio_llama_proj = nn.Linear(hidden_dim, llm_dim)

    @property
    def prefix_length(self) -> int:
        """P."""
        length = self.audio_mapper.prefix_length
        assert isinstance(length, int)
        return length

    @property
    def clap_dim(self) -> int:
        """C."""
        dim = self.audio_mapper.clap_dim
        assert isinstance(dim, int)
        return dim

    def forward(self, clap_BC: Tensor) -> Tensor:
        """(B, C), of any norm -> (B, P, L)."""
        weight = self.audio_llama_proj.weight
        unit_BC = normalize(clap_BC.float(), dim=-1).to(weight.dtype)
        return self.audio_llama_proj(self.audio_mapper(unit_BC))


def init_connector(connector: Connector, *, generator: torch.Generator, output_std: float = 0.02) -> None:
    """Draw fresh weights: Glorot for matrices, zeros for biases.

    Queries start small, so that what leaves the mapper depends on the embedding from the first step on.
    Upstream draws them from N(0, 1): constants five times as large as what attention adds, which training
    must undo.

    The projection starts so that prefix vectors have the size of the LLM's own input embeddings; a prefix
    a hundred times larger than any word embedding makes the first steps of a frozen LLM useless.

    Args:
        connector: Its parameters are overwritten in place.
        generator: Random generator of all draws.
        output_std: Standard deviation of the LLM's input embeddings.
    """
    with torch.no_grad():
        for name, parameter in connector.named_parameters():
            if name.endswith("prefix_const"):
                parameter.normal_(std=0.02, generator=generator)
            elif name.endswith("audio_mapper.linear.weight"):
                parameter.normal_(generator=generator)  # of unit vectors it makes features of size 1
            elif parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        projection = connector.audio_llama_proj.weight
        projection.normal_(std=output_std / projection.shape[1] ** 0.5, generator=generator)
