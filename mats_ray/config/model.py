"""What the model is made of. The numbers are MATS-LLaMA's unless a comment says otherwise."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mats_ray.config.base import StrictConfig


class CLAPConfig(StrictConfig):
    """The frozen encoder that puts audio and text in one space."""

    ref: str | None = None
    """Directory, checkpoint file or hub id; empty only where a toy world brings its own CLAP."""
    implementation: Literal["native", "laion_clap"] = "native"
    """"laion_clap" runs LAION's own package (extra ``laion``) on one of LAION's files, for comparison."""
    tokenizer: str | None = None
    """Directory or hub id of the text tower's tokenizer; empty: the checkpoint's own, or its family's."""
    quantize_int16: bool | None = None
    """Round audio to 16 bits first; empty: as the family's package does (LAION only)."""
    dim: PositiveInt = 1024
    """Width of the joint space; checked against the checkpoint."""
    long_audio: Literal["windows", "first", "center"] = "windows"
    """Clips longer than CLAP's window: mean over fixed windows, or one of them; never a random crop."""

    @model_validator(mode="after")
    def laions_package_decides_by_itself(self) -> "CLAPConfig":
        """It brings its tokenizer and always rounds."""
        for key, value in (("tokenizer", self.tokenizer), ("quantize_int16", self.quantize_int16)):
            if self.implementation == "laion_clap" and value is not None:
                raise ValueError(f"{key}={value!r} needs implementation: native; laion_clap has its own")
        return self


class NoiseConfig(StrictConfig):
    """Gaussian noise on text embeddings while training (paper: sigma; upstream code: a variance)."""

    variance: NonNegativeFloat = 0.015
    """Per component; std 0.1225. 0 trains without noise."""


class MapperConfig(StrictConfig):
    """The network that turns one CLAP embedding into prefix vectors."""

    type: Literal["transformer", "mlp"] = "transformer"
    """The paper's, or upstream's alternative: two linear layers, for which the widths below are enough."""
    hidden_dim: PositiveInt = 1024
    prefix_length: PositiveInt = 40
    """Vectors the LLM sees; the transformer's learned queries."""
    num_layers: PositiveInt = 8
    num_heads: PositiveInt = 8
    content_length: PositiveInt = 40
    """Vectors the embedding is expanded into ("clip length" upstream)."""

    @model_validator(mode="after")
    def heads_divide_width(self) -> "MapperConfig":
        """Attention heads share the width evenly."""
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
    """GPT-2 calls its fused projection ``c_attn``."""


class LLMConfig(StrictConfig):
    """The language model."""

    path: str | None = None
    """Directory or hub id in transformers' format; empty only where a toy world brings its own."""
    train: Literal["lora", "full"] = "lora"
    """Adapters on a frozen model, or every weight of a small one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the language model when it answers; half of it needs a bf16 engine (docs/training.md).
    What is trained is stored in float32; mapper and LoRA answer in it, too."""
    max_text_tokens: PositiveInt = 150
    """Instruction plus answer; what is longer loses the end of its instruction, with a count in the log
    (upstream: max_txt_len)."""
    lora: LoRAConfig = LoRAConfig()


class ModelConfig(StrictConfig):
    """The whole model."""

    clap: CLAPConfig = CLAPConfig()
    noise: NoiseConfig = NoiseConfig()
    mapper: MapperConfig = MapperConfig()
    llm: LLMConfig = LLMConfig()


class MemoryConfig(StrictConfig):
    """How the Santa memory is built (paper section 3.4)."""

    path: str | None = None
    """Memory file; empty: below output_dir."""
    num_rows: PositiveInt = 5172
    """Text embeddings kept, drawn from all distinct ones by seed (0.1 % of AudioTIA-5M)."""
    num_clusters: PositiveInt = 100
    num_iterations: PositiveInt = 10
    noise_variance: NonNegativeFloat = 0.015
    """Drawn once when the memory is built; nothing is drawn at inference."""

    @model_validator(mode="after")
    def clusters_fit_rows(self) -> "MemoryConfig":
        """More clusters than rows cannot be filled."""
        if self.num_clusters > self.num_rows:
            raise ValueError(f"num_clusters={self.num_clusters} exceeds num_rows={self.num_rows}")
        return self


class SantaConfig(StrictConfig):
    """How an audio embedding is moved towards the texts it resembles (paper Eq. 6-7)."""

    enabled: bool = True
    num_neighbours: PositiveInt = 32
    """L: members averaged, all of the nearest cluster; a smaller cluster gives what it has."""
    temperature: PositiveFloat = 0.1
    """tau of the softmax."""
    mix: Annotated[float, Field(ge=0, le=1)] = 0.3
    """lambda: 0 keeps the audio embedding, 1 replaces it."""
    compat: Literal["paper", "upstream"] = "paper"
    """"upstream" computes as the released code does (docs/fidelity.md): on the audio embedding as CLAP gives
    it, not normalised, and with clusters smaller than L filled up with their first row. Its
    ``temperature: 10`` multiplies; that is 0.1 here."""
    neighbour_noise_variance: NonNegativeFloat = 0
    """With compat "upstream": noise on the neighbours at each request (0.015 there), here always the same."""

    @model_validator(mode="after")
    def only_upstream_draws_at_inference(self) -> "SantaConfig":
        """The paper noises the memory once, when it is built (``memory.noise_variance``)."""
        if self.neighbour_noise_variance and self.compat != "upstream":
            raise ValueError(
                f"neighbour_noise_variance={self.neighbour_noise_variance:g} needs compat: upstream; "
                "the paper's noise is memory.noise_variance, drawn when the memory is built"
            )
        return self


class ToyConfig(StrictConfig):
    """The offline world: sounds, captions, a tiny CLAP and a tiny pretrained LLaMA."""

    sample_rate: PositiveInt = 16000
    clip_seconds: PositiveInt = 4
    """Whole ones: CLAP's front end counts its window so."""
    clap_takes: PositiveInt = 100
    """Renderings of each sound that the tiny CLAP's training clips are put together from."""
    clap_steps: PositiveInt = 400
    clap_batch_size: PositiveInt = 48
    num_texts: PositiveInt = 6000
    """Scene descriptions the triplets are made of."""
    llm_dim: Annotated[PositiveInt, Field(multiple_of=32)] = 192
    """Attention heads are 32 wide."""
    llm_layers: PositiveInt = 4
    llm_steps: NonNegativeInt = 400
    """Pretraining of the tiny LLaMA on plain text."""
    llm_batch_size: PositiveInt = 48
    """Descriptions, each with all that is asked about it."""
    num_test_clips: PositiveInt = 200
    """Held-out audio the demo captions and questions."""
    num_audio_train_clips: PositiveInt = 2000
    """Clips the audio-supervised ceiling is trained on."""
