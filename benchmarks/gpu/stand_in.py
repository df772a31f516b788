"""Models of random weights in the shapes of published ones: speed does not depend on the weights."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import ClapAudioConfig, GPT2Config, PreTrainedTokenizerFast

from benchmarks.gpu.sizes import Size
from benchmarks.gpu_train import random_llama
from mats_ray.config.generation import GenerationConfig
from mats_ray.config.model import CLAPConfig, LLMConfig, ModelConfig
from mats_ray.config.santa import SantaConfig
from mats_ray.models.build import build_mats
from mats_ray.models.clap import load_clap
from mats_ray.models.clap.msclap import FRONT_END, MSCLAP, MSCLAPTowers, native_name
from mats_ray.models.directory import SANTA, ModelSettings, save_model
from mats_ray.models.santa import SantaMemory

_WORDS = ("a", "dog", "barks", "rain", "falls", "on", "the", "roof", "while", "siren", "wails", "and", "bell")


def clap_directory(folder: Path, size: Size) -> Path:
    """Write an MS-CLAP under the names its authors gave its tensors, as ``mats convert`` keeps it."""
    generator = torch.Generator().manual_seed(0)
    audio, text = ClapAudioConfig(**size.htsat), GPT2Config(**size.gpt2)
    towers = MSCLAPTowers(audio=audio, text=text, dim=size.llm["clap"])
    with torch.no_grad():
        for name, tensor in towers.state_dict().items():
            if tensor.dim() > 1 and tensor.is_floating_point() and "running" not in name:
                tensor.normal_(std=tensor[0].numel() ** -0.5, generator=generator)
    native: dict[str, list] = {}
    for name, tensor in towers.state_dict().items():
        one = native_name(name)
        native.setdefault(one.name, []).append((one.third or 0, tensor))
    parts = {name: [t for _, t in sorted(found, key=lambda pair: pair[0])] for name, found in native.items()}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {n: (torch.cat(ts) if len(ts) > 1 else ts[0]).clone().contiguous() for n, ts in parts.items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": MSCLAP.model_type}))
    (folder / "preprocessor_config.json").write_text(json.dumps(FRONT_END))
    vocabulary = {"!": 0, "<|endoftext|>": 1, "<unk>": 2} | {word: 3 + n for n, word in enumerate(_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<|endoftext|>"
    ).save_pretrained(folder)
    return folder


def llm_directory(folder: Path, size: Size, *, dtype: torch.dtype, device: str) -> Path:
    """Write a LLaMA of random weights and a byte-level tokenizer."""
    scale = 0.02 if size.is_full else 0.2
    llm = random_llama(size.llm, device, dtype, bos_token_id=0, eos_token_id=1, initializer_range=scale)
    llm.save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: n for n, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(
        folder
    )
    return folder


def work_folder() -> Path:
    """Return the folder of what the parts make for one another, as the suite has set it."""
    return Path(os.environ["MATS_GPU_WORK"])


def model_directory(size: Size, device: str) -> Path:
    """Write, once, everything that the caption job and the service load; returns the model directory.

    The language model is in bfloat16 on a card, in float32 on a CPU; answers are greedy by default.
    """
    folder = work_folder() / f"stand-in-{size.name}-{device}"
    model_dir, done = folder / "model", folder / "written"
    if done.is_file():
        return model_dir
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    clap_dir = clap_directory(folder / "clap", size)
    llm_dir = llm_directory(folder / "llm", size, dtype=dtype, device=device)
    config = ModelConfig(
        clap=CLAPConfig(ref=str(clap_dir), dim=size.llm["clap"]),
        mapper=size.mapper,
        llm=LLMConfig(path=str(llm_dir), dtype=str(dtype).removeprefix("torch.")),
    )
    clap = load_clap(clap_dir)
    model, prompts = build_mats(config, llm_path=str(llm_dir), seed=0)
    settings = ModelSettings(
        name=f"stand-in-{size.name}",
        version="0.0.0",
        model=config,
        santa=SantaConfig(),
        generation=GenerationConfig(profile="fast", max_new_tokens=size.new_tokens),
        clap=clap.identity,
    )
    save_model(model_dir, model, prompts, settings)
    rows = torch.randn(
        2_000 if size.is_full else 200, size.llm["clap"], generator=torch.Generator().manual_seed(0)
    )
    SantaMemory.build(rows, num_clusters=20).save(model_dir / SANTA)
    done.touch()
    return model_dir


def sound_files(folder: Path, number: int, seconds: float) -> list[Path]:
    """Write that many wav files of CLAP's own rate, all different."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    draw, rate = np.random.default_rng(0), FRONT_END["sampling_rate"]
    time = np.arange(int(seconds * rate)) / rate
    noise = 0.05 * draw.standard_normal(len(time))
    paths = [folder / f"{n:05d}.wav" for n in range(number)]
    for path in paths:
        sound = 0.3 * np.sin(2 * np.pi * draw.uniform(100, 4000) * time) + noise
        if not path.is_file():
            soundfile.write(path, sound, rate)
    return paths
