"""A tiny CLAP directory in transformers' format, with random weights and a word tokenizer."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast

WORDS = [
    "a",
    "dog",
    "barks",
    "rain",
    "falls",
    "on",
    "the",
    "roof",
    "while",
    "siren",
    "wails",
    "and",
    "bell",
    "rings",
]


def save_tokenizer(path):
    vocab = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(path)


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


def tiny_clap():
    torch.manual_seed(0)  # noqa: TID251  transformers draws initial weights from the global generator
    config = ClapConfig(
        text_config={
            "vocab_size": 40,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 40,
            "layer_norm_eps": 1e-5,
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
        projection_dim=24,
    )
    return ClapModel(config).eval()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def clap_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("clap")
    tiny_clap().save_pretrained(path)
    front_end().save_pretrained(path)
    save_tokenizer(path)
    return path
