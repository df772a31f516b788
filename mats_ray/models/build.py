"""Configuration to modules: fresh models are built here and nowhere else."""

from pathlib import Path

import torch
from torch import nn

from mats_ray.config.model import CLAPConfig, MapperConfig, ModelConfig
from mats_ray.models.clap import CLAP, load_clap, pe_audio
from mats_ray.models.clap.settings import MelSettings, check_front_end, read_front_end, read_json
from mats_ray.models.llm import attach, embedding_table, load_llm
from mats_ray.models.mapper import Connector, MLPMapper, TransformerMapper, init_connector
from mats_ray.models.mats import MATS
from mats_ray.models.prompt import PromptTokenizer, load_prompts


def build_clap(config: CLAPConfig) -> CLAP:
    """Load the CLAP of a configuration whose ``ref`` is filled in.

    Raises:
        ModelError: See ``load_clap``.
    """
    assert config.ref is not None
    return load_clap(
        config.ref,
        tokenizer=config.tokenizer,
        quantize_int16=config.quantize_int16,
        implementation=config.implementation,
    )


def clap_window_seconds(config: CLAPConfig) -> float:
    """Return the window length of a configuration's CLAP in seconds, without loading it where possible.

    Raises:
        ModelError: See ``load_clap``.
    """
    assert config.ref is not None
    folder = Path(config.ref)
    if not folder.is_dir():
        return build_clap(config).window_seconds
    if read_json(folder / "config.json").get("model_type") in {pe_audio.AUDIO, pe_audio.AUDIO_VIDEO}:
        return pe_audio.WINDOW_SECONDS
    settings, file = read_front_end(folder)
    check_front_end(settings, source=str(file))
    clips = MelSettings.of(settings)
    return clips.window_samples / clips.sample_rate


def build_connector(config: MapperConfig, *, clap_dim: int, llm_dim: int) -> Connector:
    """Build mapper and projection with undefined weights."""
    return Connector(_build_mapper(config, clap_dim=clap_dim), hidden_dim=config.hidden_dim, llm_dim=llm_dim)


def _build_mapper(config: MapperConfig, *, clap_dim: int) -> nn.Module:
    if config.type == "mlp":
        return MLPMapper(clap_dim=clap_dim, hidden_dim=config.hidden_dim, prefix_length=config.prefix_length)
    return TransformerMapper(
        clap_dim=clap_dim,
        hidden_dim=config.hidden_dim,
        prefix_length=config.prefix_length,
        content_length=config.content_length,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
    )


def build_mats(config: ModelConfig, *, llm_path: str, seed: int) -> tuple[MATS, PromptTokenizer]:
    """Build a model to train: pretrained language model, fresh connector, fresh LoRA.

    Args:
        config: Widths, base models, and which parts are trained.
        llm_path: Resolved path of the language model.
        seed: Seed of all fresh weights.

    Raises:
        ModelError: The language model cannot be loaded or adapted.
    """
    generator = torch.Generator().manual_seed(seed)
    llm = load_llm(llm_path, dtype=config.llm.dtype)
    prompts = load_prompts(llm_path, llm)
    word_embeddings = embedding_table(llm)
    connector = build_connector(config.mapper, clap_dim=config.clap.dim, llm_dim=word_embeddings.shape[1])
    init_connector(connector, generator=generator, output_std=float(word_embeddings.float().std()))
    adapted = attach(llm, config.llm, generator=generator)
    return MATS(connector, adapted, before_ids=prompts.before(), eos_id=prompts.eos_id), prompts
