"""A world of random weights, seconds to build: a tiny CLAP, a tiny LLaMA, a MATS model directory on both.

Shared by tests of everything that runs a model: its answers make no sense, all of it is deterministic and
depends on the audio. 16 kHz, windows of 4 s, 24-d joint space.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from mats_ray.config.generation import GenerationConfig
from mats_ray.config.model import CLAPConfig, LLMConfig, LoRAConfig, MapperConfig, ModelConfig
from mats_ray.config.santa import SantaConfig
from mats_ray.models.build import build_mats
from mats_ray.models.clap import load_clap
from mats_ray.models.directory import SANTA, ModelSettings, save_model
from mats_ray.models.santa import SantaMemory

SAMPLE_RATE, WINDOW_SECONDS, CLAP_DIM = 16_000, 4, 24
TEXTS = [
    "USER: <Speech></Speech> Describe the following audio in a caption.\nASSISTANT: a dog barks",
    "rain falls on the roof while a siren wails and a bell rings",
    "Is there a dog? yes no",
]


def tiny_clap(directory: Path, *, seed: int = 0) -> Path:
    """Write a ``ClapModel`` with its front end and tokenizer."""
    with seeded(seed):
        clap = ClapModel(
            ClapConfig(
                text_config={
                    "vocab_size": 64,
                    "hidden_size": 32,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 2,
                    "intermediate_size": 64,
                    "max_position_embeddings": 40,
                    "initializer_factor": 10.0,
                },
                audio_config={
                    "spec_size": 64,
                    "num_mel_bins": 32,
                    "patch_embeds_hidden_size": 16,
                    "depths": [1, 1],
                    "num_attention_heads": [2, 2],
                    "hidden_size": 32,
                    "initializer_factor": 10.0,
                },
                projection_dim=CLAP_DIM,
            )
        )
    clap.save_pretrained(directory)
    ClapFeatureExtractor(
        feature_size=32,
        sampling_rate=SAMPLE_RATE,
        hop_length=512,
        max_length_s=WINDOW_SECONDS,
        fft_window_size=512,
        frequency_min=50,
        frequency_max=8000,
        truncation="rand_trunc",
        padding="repeatpad",
    ).save_pretrained(directory)
    _clap_tokenizer().save_pretrained(directory)
    return directory


def tiny_llm(directory: Path, *, seed: int = 0) -> Path:
    """Write a two-layer ``LlamaForCausalLM`` of width 32 and a byte-level BPE tokenizer."""
    tokenizer = _llm_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        initializer_range=0.4,  # large, so that logits lie apart and differ from clip to clip
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with seeded(seed):
        LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def tiny_model_dir(
    directory: Path,
    *,
    name: str = "tiny",
    seed: int = 0,
    generation: GenerationConfig | None = None,
    write_clap: Callable[..., Path] = tiny_clap,
) -> Path:
    """Write ``clap/``, ``llm/`` and ``model/`` below a folder and return the model directory.

    Args:
        directory: Made if absent.
        name: Stands in the model id.
        seed: Another seed makes another model (of another CLAP too).
        generation: Greedy, twelve tokens by default.
        write_clap: Writes a CLAP of the same width into a directory, by seed.
    """
    clap_dir, llm_dir = write_clap(directory / "clap", seed=seed), tiny_llm(directory / "llm", seed=seed)
    config = ModelConfig(
        clap=CLAPConfig(ref=str(clap_dir), dim=CLAP_DIM),
        mapper=MapperConfig(hidden_dim=32, num_layers=2, num_heads=2, prefix_length=4, content_length=4),
        llm=LLMConfig(path=str(llm_dir), lora=LoRAConfig(rank=2)),
    )
    clap = load_clap(clap_dir)
    with torch.no_grad():
        model, prompts = build_mats(config, llm_path=str(llm_dir), seed=seed)
        # random queries outweigh the clip; tests need answers that differ from clip to clip
        model.connector.audio_mapper.prefix_const.mul_(0.1)
        model.connector.audio_mapper.linear.weight.mul_(10)
    settings = ModelSettings(
        name=name,
        version="0.0.0",
        model=config,
        santa=SantaConfig(num_neighbours=4),
        generation=generation or GenerationConfig(profile="fast", max_new_tokens=12),
        clap=clap.identity,
    )
    save_model(directory / "model", model, prompts, settings)
    texts = clap.encode_text([f"{a} {b}" for a in _WORDS for b in _WORDS[:4]])
    SantaMemory.build(texts, num_clusters=4, seed=seed).save(directory / "model" / SANTA)
    return directory / "model"


class seeded:  # noqa: N801  (reads as a statement, like torch.no_grad)
    """Draw from a seed inside, leave the global generator as it was: transformers accepts no Generator."""

    def __init__(self, seed: int) -> None:
        self._seed, self._fork = seed, torch.random.fork_rng(devices=[])

    def __enter__(self) -> None:
        self._fork.__enter__()
        torch.manual_seed(self._seed)  # noqa: TID251

    def __exit__(self, *error: object) -> None:
        self._fork.__exit__(*error)


_WORDS = [
    "dog",
    "barks",
    "rain",
    "falls",
    "on",
    "the",
    "roof",
    "while",
    "a",
    "siren",
    "wails",
    "and",
    "bell",
    "rings",
]


def _clap_tokenizer() -> PreTrainedTokenizerFast:
    vocab = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def _llm_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
