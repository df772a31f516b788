"""Section ``model``. The numbers are MATS-LLaMA's unless a comment says otherwise."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from mats_ray.config.base import StrictConfig
from mats_ray.config.bridge import BridgeName
from mats_ray.config.paths import PretrainedPath
from mats_ray.errors import ConfigError

NOISE_VARIANCE = 0.015
"""Variance per component of the noise on text embeddings, in training and in the Santa memory."""
AUTO: Literal["auto"] = "auto"
_NUMBER = TypeAdapter[float](Annotated[float, Field(ge=0, allow_inf_nan=False)])


def _number_or_auto(value: object) -> object:
    try:
        return value if value == AUTO else _NUMBER.validate_python(None if isinstance(value, bool) else value)
    except ValidationError:
        message = "Input should be a number that is not negative, or auto"
        raise PydanticCustomError("variance", "{message}", {"message": message}) from None


Variance = Annotated[
    float | Literal["auto"],
    PlainValidator(_number_or_auto, json_schema_input_type=NonNegativeFloat | Literal["auto"]),
]
"""Variance per component; "auto": estimated by captions of one clip (``data/embedding/noise_variance``)."""


def known_variance(variance: float | Literal["auto"]) -> float:
    """Return a variance that is a number, or has been estimated.

    Raises:
        ConfigError: It is still "auto".
    """
    if variance == AUTO:
        raise ConfigError(
            "a noise variance of auto is estimated by `mats memory` and `mats train`; nothing else does"
        )
    return float(variance)


PromptChoice = Literal["auto", "vicuna", "chat"]
"""Values of ``model.llm.prompt_format``."""


class CLAPConfig(StrictConfig):
    """The frozen encoder that puts audio and text in one space."""

    ref: PretrainedPath | None = None
    """Directory, checkpoint file or hub id; empty only where a toy world builds a CLAP."""
    implementation: Literal["native", "laion_clap"] = "native"
    """"laion_clap" runs LAION's own package (extra ``laion``) on one of LAION's files, for comparison."""
    tokenizer: PretrainedPath | None = None
    """Directory or hub id of the text tower's tokenizer; empty: the checkpoint's own, or its family's."""
    quantize_int16: bool | None = None
    """Round audio to 16 bits first; empty: as the family's package does (LAION only)."""
    dim: PositiveInt = 1024
    """Width of the joint space; checked against the checkpoint."""
    long_audio: Literal["windows", "first", "center"] = "windows"
    """Clips longer than CLAP's window: mean over fixed windows, or one of them; never a random crop."""

    @model_validator(mode="after")
    def laions_package_has_its_own(self) -> "CLAPConfig":
        """LAION's package loads its own tokenizer and always rounds to 16 bits."""
        for key, value in (("tokenizer", self.tokenizer), ("quantize_int16", self.quantize_int16)):
            if self.implementation == "laion_clap" and value is not None:
                raise ValueError(f"{key}={value!r} needs implementation: native; laion_clap has its own")
        return self


class NoiseConfig(StrictConfig):
    """Gaussian noise on text embeddings while training (paper: sigma; upstream code: a variance)."""

    variance: Variance = NOISE_VARIANCE
    """Variance per component; 0.015 is a standard deviation of 0.1225. 0 trains without noise. "auto": what
    captions of one clip say of this CLAP (`mats embed --estimate-noise`); the run records the number."""


class MapperConfig(StrictConfig):
    """The network that turns one CLAP embedding into prefix vectors."""

    type: Literal["transformer", "mlp"] = "transformer"
    """"transformer" is the paper's. "mlp" is upstream's alternative, two linear layers, which use only
    ``hidden_dim`` and ``prefix_length``."""
    hidden_dim: PositiveInt = 1024
    prefix_length: PositiveInt = 40
    """Number of prefix vectors the LLM reads; the transformer has as many learned queries."""
    num_layers: PositiveInt = 8
    num_heads: PositiveInt = 8
    content_length: PositiveInt = 40
    """Number of vectors the embedding is expanded into ("clip length" upstream)."""

    @model_validator(mode="after")
    def heads_divide_width(self) -> "MapperConfig":
        """The width must divide evenly among the attention heads."""
        if self.type == "transformer" and self.hidden_dim % self.num_heads:
            raise ValueError(f"hidden_dim={self.hidden_dim} is not a multiple of num_heads={self.num_heads}")
        return self


class LoRAConfig(StrictConfig):
    """Low-rank adapters on the frozen LLM."""

    rank: PositiveInt = 8
    alpha: PositiveFloat = 32
    """The paper's "scaling factor 4" is alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] = ("q_proj", "v_proj")
    """Names of the modules that get an adapter; in GPT-2 the fused projection is ``c_attn``."""


class LLMConfig(StrictConfig):
    """The language model."""

    path: PretrainedPath | None = None
    """Directory or hub id in transformers' format; empty only where a toy world builds one."""
    train: Literal["lora", "full"] = "lora"
    """"lora": adapters on a frozen model. "full": every weight of a small one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the language model at inference; 16-bit types need a bf16 engine in training
    (docs/training.md). Mapper and LoRA are stored and computed in float32."""
    prompt_format: PromptChoice = "auto"
    """Texts around audio prefix, question and answer while training; a model directory keeps the texts
    themselves, and answers by them. "vicuna": the paper's. "chat": the tokenizer's own chat template, without
    thinking. "auto": "chat" where the tokenizer has a template, else "vicuna"."""
    max_text_tokens: PositiveInt = 150
    """Largest number of tokens of instruction and answer together, and what the prompt puts around them; a
    longer sample loses the end of its instruction, and the log counts such samples (upstream:
    max_txt_len)."""
    lora: LoRAConfig = LoRAConfig()

    @property
    def adapters(self) -> LoRAConfig | None:
        """The adapters that are trained; None: the whole model is."""
        return self.lora if self.train == "lora" else None


class ModelConfig(StrictConfig):
    """The whole model."""

    clap: CLAPConfig = CLAPConfig()
    noise: NoiseConfig = NoiseConfig()
    mapper: MapperConfig = MapperConfig()
    llm: LLMConfig = LLMConfig()
    bridge: BridgeName = "santa"
    """What moves audio embeddings to the text side when the model answers; it plays no part in training.
    "mean_shift" needs audio without texts, "spectral" a few pairs (section ``memory``)."""
