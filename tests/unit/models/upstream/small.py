"""A released MATS checkpoint in miniature, with the base models it belongs to."""

import torch

from mats_ray.config.model import CLAPConfig, LLMConfig, LoRAConfig, MapperConfig, ModelConfig
from mats_ray.models.build import build_mats
from tests.world import CLAP_DIM, tiny_clap, tiny_llm


def base_models(folder):
    tiny_clap(folder / "clap")
    tiny_llm(folder / "llm")
    return {"clap": str(folder / "clap"), "llm": str(folder / "llm")}


def trained(folder, *, mapper="transformer", clap_dim=CLAP_DIM):
    """A model as training leaves it, on the base models in the folder."""
    config = ModelConfig(
        clap=CLAPConfig(dim=clap_dim),
        mapper=MapperConfig(type=mapper, hidden_dim=16, num_layers=2, prefix_length=3, content_length=2),
        llm=LLMConfig(lora=LoRAConfig(rank=2)),
    )
    model, prompts = build_mats(config, llm_path=str(folder / "llm"), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval(), prompts


def state_of(model):
    """Return what upstream's saver keeps: trained parameters and buffers."""
    kept = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kept[name.removeprefix("connector.").replace("llm.base_model.", "llama_model.base_model.")] = (
                parameter.detach()
            )
    return kept | {
        "ln_audio.weight": torch.ones(CLAP_DIM),
        "ln_audio.bias": torch.zeros(CLAP_DIM),
        "llama_model.base_model.model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
        "audio_encoder.base.htsat.bn0.running_mean": torch.zeros(64),
        "clap_text_encoder.base.h.0.attn.bias": torch.ones(1, 1, 4, 4),
    }


def frozen_of(model, *, pad_row=True, layer=".base_layer"):
    """Base weights under the names of a version of peft, with upstream's row for [PAD] in both tables."""
    kept = {}
    for name, parameter in model.llm.named_parameters():
        if ".lora_" in name:
            continue
        tensor = parameter.detach()
        if pad_row and name.endswith(("embed_tokens.weight", "lm_head.weight")):
            tensor = torch.cat([tensor, torch.zeros(1, tensor.shape[1])])
        kept["llama_model." + name.replace(".base_layer", layer)] = tensor
    return kept


def save(folder, state):
    torch.save({"model": state, "iteration": 3, "optimizer": {"step": 1}}, folder / "mats.pth")
    return folder / "mats.pth"
