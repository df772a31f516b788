"""PE-AV models small enough for a test, by transformers' own classes: 24-d space, real rate and strides."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PeAudioConfig, PeAudioFeatureExtractor, PeAudioModel, PreTrainedTokenizerFast

from tests.golden.recipe import CONSTANTS, fill

SAMPLE_RATE, DIM = 48_000, 24
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
SPECIAL = ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]


def small_config(**text):
    """Every kind of layer: full and local attention in the text tower, four strides in the codec."""
    return PeAudioConfig(
        text_config={
            "vocab_size": 32,
            "hidden_size": DIM,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 40,
            "local_attention": 8,
            "bos_token_id": 0,
            "cls_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "sep_token_id": 2,
            **text,
        },
        audio_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "head_dim": 16,
            "intermediate_size": 48,
            "dac_config": {"encoder_hidden_size": 4, "codebook_dim": 8},
        },
    )


def small_model(config=None, *, cls=PeAudioModel, salt="dev"):
    """Build a model with the recipe's weights, biases among them, which transformers would start at zero."""
    model = cls(config or small_config()).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not name.endswith(CONSTANTS):
                tensor.copy_(torch.from_numpy(fill(salt, name, tuple(tensor.shape))))
    return model


def save_pe_audio(directory: Path, *, seed: int = 0, cls=PeAudioModel, dtype=torch.float32) -> Path:
    """Write a directory as ``save_pretrained`` of model and processor do."""
    model: Any = small_model(cls=cls, salt=f"seed{seed}")
    model.to(dtype)
    model.save_pretrained(directory)
    save_rest(directory)
    return directory


def save_with_video(directory: Path, *, seed: int = 0) -> Path:
    """Write a directory as PE-AV's: the audio part below ``audio_model``, the text tower beside it."""
    directory.mkdir(parents=True)
    model = small_model(salt=f"seed{seed}")
    state = {
        name if name.startswith("text_model.") else f"audio_model.{name}": tensor
        for name, tensor in model.state_dict().items()
    }
    for name in ("video_model.video_encoder.norm.weight", "audio_video_encoder.norm.weight"):
        state[name] = torch.ones(3)
    for name in ("text_audio_video_head.proj.weight", "video_plus_text_head.proj.weight"):
        state[name] = torch.ones(3, 3)
    for name in ("audio_video_logit_scale", "text_audio_video_logit_bias", "audio_plus_text_logit_bias"):
        state[name] = torch.ones(1)
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    tree = model.config.to_dict()
    tree = {
        "model_type": "pe_audio_video",
        "architectures": ["PeAudioVideoModel"],
        "text_config": tree["text_config"],
        "audio_video_config": {
            "audio_config": tree["audio_config"],
            "video_config": {"vision_config": {"model_type": "timm_wrapper", "architecture": "vit_pe_core"}},
        },
    }
    (directory / "config.json").write_text(json.dumps(tree))
    save_rest(directory)
    return directory


def save_rest(directory: Path) -> None:
    """Write front end and tokenizer: whole words between [CLS] and [SEP]."""
    PeAudioFeatureExtractor().save_pretrained(directory)
    vocab = {token: index for index, token in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="[CLS]",
        pad_token="[PAD]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        model_max_length=8192,
    ).save_pretrained(directory)


def reference_audio(model, clip):
    """Embed one clip at 48 kHz by transformers' extractor and ``forward``: (C,), not normalised."""
    inputs = PeAudioFeatureExtractor()([clip], sampling_rate=SAMPLE_RATE, return_tensors="pt")
    with torch.inference_mode():
        return model(input_ids=torch.tensor([[0, 5, 2]]), **inputs).audio_embeds[0]


def reference_text(model, ids, mask=None):
    """Embed token ids by transformers' ``forward``: (B, C), not normalised."""
    with torch.inference_mode():
        silence = torch.zeros(1, 1, 1920)
        return model(input_ids=ids, attention_mask=mask, input_values=silence).text_audio_embeds
