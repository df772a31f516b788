"""Bytes of activations that the backward pass of a training step needs, by arithmetic, from shapes alone.

Counted tensor by tensor is what autograd keeps of transformers' eager layers with fused attention; a test
compares the counts with autograd's own. Per token and layer, with w bytes per number:

    norms       8 D             LLaMA's keep their input in float32
                2 (w + m) D     GPT-2's; and the masks of its two dropouts, m bytes per element
    attention   w (2Q + 2K)     queries, output, keys and values
    MLP         w 3M            with a gate: its activation's input and output, and the factor
                w 4M            without one: GPT-2's gelu_new is four operations, each keeps a tensor
    adapter     (w + m) I       its input behind dropout, and the mask
    trained     w (4D + M)      where nothing is frozen: inputs of the matrices, outputs of the norms

Left out: norms of single heads (Qwen3's, 8 % of a layer); that adapters without dropout keep a common input
once. Needs no torch.

Shapes: D width of the residual stream, Q and K of all heads of queries and of keys, M of the MLP, I of a
matrix's input.
"""

from mats_ray.config.model import LoRAConfig, MapperConfig
from mats_ray.train.flops import LLMShape

MAPPER_NUMBERS = 10
"""Numbers kept per position and unit of width in a layer of the mapper: two norms' inputs and outputs,
queries, keys, values, output, and the MLP's inner activation, which has twice the width."""
LOSS_BYTES = 8
"""Per logit beside the logit itself: its float32 copy and its gradient."""


def language_model_bytes(
    shape: LLMShape, lora: LoRAConfig | None, *, tokens: float, width: int, mask_bytes: int = 1
) -> float:
    """Return what the layers of a language model keep.

    Args:
        shape: Of the model.
        lora: Its adapters; None: all of it is trained.
        tokens: Number of tokens, the audio prefix included.
        width: Bytes per number.
        mask_bytes: Per element of a dropout mask: 1 on a GPU, ``width`` on a CPU.
    """
    query, kv = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    has_gate = shape.mlp_matrices == 3
    norms = 2 * shape.dim * (4 if has_gate else width + mask_bytes)
    attention = width * (2 * query + 2 * kv)
    mlp = width * shape.mlp_dim * (3 if has_gate else 4)
    if lora is None:
        inputs = width * (4 * shape.dim + shape.mlp_dim)
    else:
        mask = mask_bytes if lora.dropout else 0
        inputs = (width + mask) * sum(shape.matrix_ends(name)[0] for name in lora.target_modules)
    return shape.num_layers * tokens * (norms + attention + mlp + inputs)


def unfused_attention_bytes(shape: LLMShape, *, row_tokens: int, width: int) -> float:
    """Return what one row keeps more where attention is not fused: on a CPU, if it has dropout (GPT-2's).

    It computes in float32: each pair of tokens keeps two numbers, three if they are made from 16 bit, and
    so are queries, keys and values.
    """
    pairs = (2 if width == 4 else 3) * 4 * shape.num_heads * row_tokens**2
    wider = (4 - width) * 3 * shape.num_heads * shape.head_dim * row_tokens
    return shape.num_layers * (pairs + wider)


def mapper_bytes(mapper: MapperConfig, *, width: int) -> float:
    """Return what the mapper keeps of one sample."""
    if mapper.type == "mlp":
        return 1.5 * width * mapper.prefix_length * mapper.hidden_dim
    positions = mapper.content_length + mapper.prefix_length
    return mapper.num_layers * positions * mapper.hidden_dim * MAPPER_NUMBERS * width


def logits_bytes(shape: LLMShape, *, tokens: float, width: int) -> float:
    """Return the bytes of logits and of their loss; only tokens with loss have any."""
    return tokens * shape.vocab_size * (width + LOSS_BYTES)
