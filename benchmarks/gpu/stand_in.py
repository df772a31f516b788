"""Models of random weights in the shapes of published ones: speed does not depend on the weights.

A part of its own writes what the parts behind it load: it takes a disk as long as they measure.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import normalize
from transformers import ClapAudioConfig, GPT2Config, PreTrainedTokenizerFast

from benchmarks.gpu.parts import Outcome
from benchmarks.gpu.sizes import Size
from benchmarks.gpu.suite import revision
from benchmarks.gpu_train import random_llama
from mats_ray.config.generation import GenerationConfig
from mats_ray.config.model import CLAPConfig, LLMConfig, ModelConfig
from mats_ray.config.santa import SantaConfig
from mats_ray.models.bridges.santa import Santa
from mats_ray.models.build import build_mats
from mats_ray.models.clap import CLAP, load_clap
from mats_ray.models.clap.msclap import FRONT_END, MSCLAP, MSCLAPTowers, native_name
from mats_ray.models.directory import SANTA, ModelSettings, save_model
from mats_ray.models.santa import SantaMemory
from mats_ray.models.stand_in import mark_stand_in

_WORDS = ("a", "dog", "barks", "rain", "falls", "on", "the", "roof", "while", "siren", "wails", "and", "bell")
_SPACE = "\u0120"
"""A space, as byte-level tokenizers write it."""


def run(size: Size, device: str, outcome: Outcome) -> None:
    writers = {"model": lambda: model_directory(size, device).parent, "sounds": lambda: _sounds(size)}
    for what, write in writers.items():
        started = time.perf_counter()
        folder = write()
        row = {"written": what, "seconds": time.perf_counter() - started, "gigabytes": _gigabytes(folder)}
        outcome.figures["gigabytes"] = outcome.figures.get("gigabytes", 0.0) + row["gigabytes"]
        outcome.add("Written, or there before", row)


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
    mark_stand_in(folder, of="MS-CLAP 2023")
    return folder


def llm_directory(folder: Path, size: Size, *, dtype: torch.dtype, device: str) -> Path:
    """Write a LLaMA of random weights and a byte-level tokenizer whose other ids are words.

    It answers in words alone, and as many as it may: neither its end nor half a character has the largest
    logit, so every answer has a first piece of text, and all are of one length.
    """
    scale = 0.02 if size.is_full else 0.2
    llm = random_llama(size.llm, device, dtype, bos_token_id=0, eos_token_id=1, initializer_range=scale)
    read = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    with torch.no_grad():
        llm.lm_head.weight[: len(read)] = 0
    llm.save_pretrained(folder)
    words = [f"{_SPACE}w{n}" for n in range(len(read), size.llm["vocab"])]
    vocabulary = {token: n for n, token in enumerate([*read, *words])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(
        folder
    )
    mark_stand_in(folder, of="LLaMA")
    return folder


def work_folder() -> Path:
    """Return the folder of what the parts make for one another, as the suite has set it."""
    return Path(os.environ["MATS_GPU_WORK"])


def sounds_folder(size: Size) -> Path:
    """Return the folder of the files that are captioned."""
    return work_folder() / f"sounds-{size.name}"


def model_directory(size: Size, device: str) -> Path:
    """Write, once per state of the code, everything that is loaded; returns the model directory.

    The language model is in bfloat16 on a card, in float32 on a CPU; answers are greedy by default.
    """
    folder = work_folder() / f"stand-in-{size.name}-{device}"
    model_dir, done = folder / "model", folder / "written"
    if done.is_file() and done.read_text() == revision():
        return model_dir
    shutil.rmtree(folder, ignore_errors=True)
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
    rows = torch.randn(
        2_000 if size.is_full else 200, size.llm["clap"], generator=torch.Generator().manual_seed(0)
    )
    memory = SantaMemory.build(rows, num_clusters=20)
    _tell_apart(model.connector.audio_mapper, memory, clap, size)
    save_model(model_dir, model, prompts, settings)
    memory.save(model_dir / SANTA)
    done.write_text(revision())
    return model_dir


def sound_files(folder: Path, number: int, seconds: float) -> list[Path]:
    """Write that many wav files of CLAP's own rate, all different."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{n:05d}.wav" for n in range(number)]
    if all(path.is_file() for path in paths):
        return paths
    for path, sound in zip(paths, _tones(number, seconds), strict=True):
        if not path.is_file():
            soundfile.write(path, sound, FRONT_END["sampling_rate"])
    return paths


def _tones(number: int, seconds: float) -> Iterator[np.ndarray]:
    draw, rate = np.random.default_rng(0), FRONT_END["sampling_rate"]
    at = np.arange(int(seconds * rate)) / rate
    noise = 0.05 * draw.standard_normal(len(at))
    for _ in range(number):
        yield 0.3 * np.sin(2 * np.pi * draw.uniform(100, 4000) * at) + noise


def _tell_apart(mapper: Any, memory: SantaMemory, clap: CLAP, size: Size) -> None:
    """Let the mapper see what sounds differ in, as training does.

    A random CLAP embeds all of them in nearly one direction: every caption would be the same.
    """
    waves = list(_tones(8, size.clip_seconds))
    moved = Santa(memory).transfer(clap.encode_audio(waves, FRONT_END["sampling_rate"]))
    unit_BC = normalize(moved, dim=-1)
    mean_C = unit_BC.mean(0)
    with torch.no_grad():
        mapper.linear.weight /= (unit_BC - mean_C).norm(dim=-1).mean()
        mapper.linear.bias.copy_(-(mapper.linear.weight @ mean_C))


def _sounds(size: Size) -> Path:
    sound_files(sounds_folder(size), size.clips, size.clip_seconds)
    return sounds_folder(size)


def _gigabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9
