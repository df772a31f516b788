"""CLAPs small enough for a unit test: a transformers directory, and files in the published layouts."""

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    GPT2Config,
    PreTrainedTokenizerFast,
)

from mats_ray.models.clap import laion, msclap

WORDS = ["a", "dog", "barks", "rain", "falls", "on", "the", "roof", "while", "siren", "wails", "and", "bell"]


def save_tokenizer(path):
    """Whole words between <s> and </s>, as RoBERTa frames them."""
    vocab = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(path)


def save_gpt2_tokenizer(path):
    """Bytes with one merge, "!!", which MS-CLAP must not make; "!" is id 0 as in GPT-2."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate(["!", *(c for c in alphabet if c != "!"), "!!"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("!", "!")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    ).save_pretrained(path)
    return len(vocab) + 1


def front_end(**overrides):
    settings = {
        "feature_size": 32,
        "sampling_rate": 16000,
        "hop_length": 512,
        "max_length_s": 4,
        "fft_window_size": 512,
        "frequency_min": 50,
        "frequency_max": 8000,
        "truncation": "rand_trunc",
        "padding": "repeatpad",
    }
    return ClapFeatureExtractor(**(settings | overrides))


def randomise(module, seed=0):
    """Weights of a size that lets every part matter, from a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point():
                continue
            draw = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(1 + draw.square())
            elif tensor.ndim > 1:
                tensor.copy_(draw / tensor[0].numel() ** 0.5)
            else:
                tensor.copy_(0.1 * draw + name.endswith("weight"))
    return module.eval()


def directory_clap():
    return randomise(
        ClapModel(
            ClapConfig(
                text_config={
                    "vocab_size": 40,
                    "hidden_size": 32,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 2,
                    "intermediate_size": 64,
                    "max_position_embeddings": 40,
                    "layer_norm_eps": 1e-5,
                },
                audio_config={
                    "spec_size": 64,
                    "num_mel_bins": 32,
                    "patch_embeds_hidden_size": 16,
                    "depths": [1, 1],
                    "num_attention_heads": [2, 2],
                    "hidden_size": 32,
                },
                projection_dim=24,
            )
        )
    )


def save_directory(path, **front_end_overrides):
    directory_clap().save_pretrained(path)
    front_end(**front_end_overrides).save_pretrained(path)
    save_tokenizer(path)
    return path


def audio_config(*, fusion=False, width=8):
    fused = {"enable_fusion": True, "fusion_type": "aff_2d"} if fusion else {}
    return ClapAudioConfig(
        patch_embeds_hidden_size=width,
        depths=[1, 2],
        num_attention_heads=[1, 2],
        hidden_size=2 * width,
        **fused,
    )


def laion_state(*, fusion=False, width=8):
    """Native names of a LAION checkpoint with a tiny audio and text tower, and extras that have no use."""
    config = ClapConfig(
        text_config={
            "vocab_size": 40,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 1,
            "intermediate_size": 32,
            "max_position_embeddings": 90,
            "layer_norm_eps": 1e-5,
        },
        audio_config=audio_config(fusion=fusion, width=width).to_dict(),
        projection_dim=24,
    )
    state = to_native(randomise(ClapModel(config)), laion._native_name)
    return state | {
        "audio_branch.head.bias": torch.zeros(3),
        "audio_branch.logmel_extractor.melW": torch.zeros(3),
        "audio_branch.layers.0.blocks.0.attn_mask": torch.zeros(3),
        "text_transform.sequential.0.weight": torch.zeros(3),
    }


def msclap_state(vocab_size=300):
    """Native names of an MS-CLAP 2023 checkpoint with tiny towers."""
    towers = msclap.MSCLAPTowers(
        audio=audio_config(),
        text=GPT2Config(vocab_size=vocab_size, n_positions=32, n_embd=64, n_layer=2, n_head=1, n_inner=32),
        dim=24,
    )
    return to_native(randomise(towers), msclap.native_name) | {"logit_scale": torch.tensor(1.0)}


def to_native(module, native_name):
    state = {}
    for ours, tensor in module.state_dict().items():
        native = native_name(ours)
        state.setdefault(native.name, []).append(tensor)
    return {name: torch.cat(parts) if len(parts) > 1 else parts[0] for name, parts in state.items()}


def save_laion(path, state):
    """Distributed names, pickle protocol 4, numpy scalars beside the weights."""
    content = {"epoch": np.int64(3), "state_dict": {f"module.{name}": value for name, value in state.items()}}
    torch.save(content | {"lr": np.float64(0.1)}, path, pickle_protocol=4)
    return path


def save_msclap(path, state):
    torch.save({"model": state}, path)
    return path


def noise(*sizes, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.uniform(-0.5, 0.5, size).astype(np.float32) for size in sizes]
