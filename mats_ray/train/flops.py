"""Floating-point operations of a training step by arithmetic, from shapes alone.

A multiply-add counts as two. Per token and matrix of n weights: 2n forward, 2n for the gradient of its input,
2n more for the gradient of the matrix itself, which a frozen one does not need. So LoRA on a frozen model
costs 4n, training all of it 6n. Embedding look-ups, norms and activations are left out; causal attention
counts half a square; padding and recomputation are not useful work and do not count. The output layer is run
at answer positions only. Needs no torch.
"""

from dataclasses import dataclass
from typing import Any

from mats_ray.config.model import LoRAConfig, MapperConfig

FROZEN, TRAINED = 4, 6


@dataclass(frozen=True, slots=True)
class LLMShape:
    """Shape of a LLaMA- or GPT-2-like decoder."""

    dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    mlp_matrices: int
    """3 with a gate (LLaMA), 2 without (GPT-2)."""
    vocab_size: int
    tied: bool
    """Output layer and embedding are one matrix."""

    @property
    def layer_weights(self) -> int:
        """Number of weights of all matrices in all layers, without the output layer."""
        width = self.num_heads * self.head_dim
        attention = 2 * self.dim * width + 2 * self.dim * self.num_kv_heads * self.head_dim
        return self.num_layers * (attention + self.mlp_matrices * self.dim * self.mlp_dim)

    @property
    def num_weights(self) -> int:
        """Number of weights of all matrices, embedding and output layer included."""
        return self.layer_weights + (1 if self.tied else 2) * self.vocab_size * self.dim

    def matrix_ends(self, name: str) -> tuple[int, int]:
        """Return input and output width of the matrix that a module holds; (0, 0) if its name is unknown."""
        query, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        ends = {
            "q_proj": (self.dim, query),
            "k_proj": (self.dim, kv),
            "v_proj": (self.dim, kv),
            "o_proj": (query, self.dim),
            "gate_proj": (self.dim, self.mlp_dim),
            "up_proj": (self.dim, self.mlp_dim),
            "down_proj": (self.mlp_dim, self.dim),
            "c_attn": (self.dim, query + 2 * kv),
            "c_fc": (self.dim, self.mlp_dim),
        }
        return ends.get(name, (0, 0))

    def lora_weights(self, lora: LoRAConfig) -> int:
        """Number of weights of the adapters; unknown module names count as none."""
        return self.num_layers * lora.rank * sum(sum(self.matrix_ends(name)) for name in lora.target_modules)


def llm_shape(config: Any) -> LLMShape:
    """Read the shape off a transformers configuration: LLaMA's names, or GPT-2's."""
    dim, heads = config.hidden_size, config.num_attention_heads
    gpt2 = config.model_type == "gpt2"
    return LLMShape(
        dim=dim,
        num_layers=config.num_hidden_layers,
        num_heads=heads,
        num_kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or dim // heads,
        mlp_dim=(config.n_inner or 4 * dim) if gpt2 else config.intermediate_size,
        mlp_matrices=2 if gpt2 else 3,
        vocab_size=config.vocab_size,
        tied=bool(config.tie_word_embeddings),
    )


KNOWN_SHAPES = {
    "llama-7b": LLMShape(4096, 32, 32, 32, 128, 11008, 3, 32000, tied=False),
    "vicuna-7b-v1.5": LLMShape(4096, 32, 32, 32, 128, 11008, 3, 32000, tied=False),
    "gpt2": LLMShape(768, 12, 12, 12, 64, 3072, 2, 50257, tied=True),
    "qwen3-8b": LLMShape(4096, 36, 32, 8, 128, 12288, 3, 151936, tied=False),
    "smollm2-135m": LLMShape(576, 30, 9, 3, 64, 1536, 3, 49152, tied=True),
}
"""By the last part of a hub id, lower case: for plans on a machine that does not hold the model."""


def mapper_weights(mapper: MapperConfig, *, clap_dim: int, llm_dim: int) -> tuple[int, int]:
    """Return the weights used once per sample (the expansion), and those used at every position."""
    width = mapper.hidden_dim
    if mapper.type == "mlp":
        out = mapper.prefix_length * width
        return clap_dim * (out // 2) + (out // 2) * out + mapper.prefix_length * width * llm_dim, 0
    once = clap_dim * mapper.content_length * width + mapper.prefix_length * width * llm_dim
    return once, mapper.num_layers * 8 * width * width


def num_mapper_parameters(mapper: MapperConfig, *, clap_dim: int, llm_dim: int) -> int:
    """Matrices and learned queries; biases and norms (0.1 %) are left out."""
    once, each = mapper_weights(mapper, clap_dim=clap_dim, llm_dim=llm_dim)
    projection = mapper.hidden_dim * llm_dim
    return once - (mapper.prefix_length - 1) * projection + each + mapper.prefix_length * mapper.hidden_dim


@dataclass(frozen=True, slots=True)
class TrainingFlops:
    """Operations of training steps, from shapes."""

    llm: LLMShape
    mapper: MapperConfig
    clap_dim: int
    lora: LoRAConfig | None
    """None: the whole language model is trained."""

    def count(self, *, samples: int, text_tokens: int, answer_tokens: int) -> float:
        """Return the operations of a step.

        Args:
            samples: Number of samples in the step.
            text_tokens: Number of non-padding tokens, without the audio prefix.
            answer_tokens: Number of those that carry loss.
        """
        tokens = text_tokens + samples * self.mapper.prefix_length
        base = FROZEN if self.lora else TRAINED
        adapters = TRAINED * self.llm.lora_weights(self.lora) if self.lora else 0
        matrices = (base * self.llm.layer_weights + adapters) * tokens
        width = self.llm.num_heads * self.llm.head_dim
        # 2 products of (S x S/2 x width) forward and twice that backward, S the mean length
        attention = 6 * self.llm.num_layers * width * tokens * (tokens / max(1, samples))
        output = base * self.llm.vocab_size * self.llm.dim * answer_tokens
        return matrices + attention + output + samples * self._mapper()

    def _mapper(self) -> float:
        once, each = mapper_weights(self.mapper, clap_dim=self.clap_dim, llm_dim=self.llm.dim)
        if self.mapper.type == "mlp":
            return TRAINED * once
        positions = self.mapper.content_length + self.mapper.prefix_length
        attention = 12 * self.mapper.num_layers * self.mapper.hidden_dim * positions**2
        return TRAINED * (once + each * positions) + attention
