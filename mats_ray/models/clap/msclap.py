"""MS-CLAP 2023 (``CLAP_weights_2023.pth``, the paper's encoder) on transformers' HTSAT and GPT-2.

Shapes: B batch, T tokens, F frames, M mel bands, H tower width, C joint space.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ClapAudioConfig, ClapAudioModel, GPT2Config, GPT2Model
from transformers.initialization import no_init_weights

from mats_ray.models.clap import htsat
from mats_ray.models.clap.frontend import LogMel
from mats_ray.models.clap.tokens import TextTokens
from mats_ray.models.clap.tower_clap import Family, Towers
from mats_ray.models.weights import NativeName, check_tensors, dim, load_weights, numbers_in

# The mel bank is laid out for 32 kHz although the audio has 44.1 kHz: the package's HTSAT ignores its
# arguments and uses a module constant (microsoft/CLAP issue 38).
FRONT_END: dict[str, Any] = {
    "sampling_rate": 44_100,
    "mel_sampling_rate": 32_000,
    "max_length_s": 7,
    "fft_window_size": 1024,
    "hop_length": 320,
    "feature_size": 64,
    "frequency_min": 50,
    "frequency_max": 14_000,
    "truncation": "rand_trunc",
    "padding": "repeat",
    "resampler": "sinc",
}

_HTSAT = "audio_encoder.base.htsat."
_KERNELS = (
    f"{_HTSAT}spectrogram_extractor.stft.conv_real.weight",
    f"{_HTSAT}spectrogram_extractor.stft.conv_imag.weight",
    f"{_HTSAT}logmel_extractor.melW",
)
# The causal masks are buffers that old versions of transformers stored.
_UNUSED = "|".join(
    [
        rf"audio_encoder\.base\.htsat\.({htsat.UNUSED})",
        r"caption_encoder\.base\.h\.\d+\.attn\.(masked_)?bias",
        "logit_scale",
    ]
)

_PREFIXES = {
    "audio_projection.": "audio_encoder.projection.",
    "text_model.": "caption_encoder.base.",
    "text_projection.": "caption_encoder.projection.",
}


class Projection(nn.Module):
    """Head of a tower: (B, H) -> (B, C), of length about sqrt(C)."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, dim, bias=False)
        self.linear2 = nn.Linear(dim, dim, bias=False)
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, pooled_BH: Tensor) -> Tensor:
        """Return (B, C)."""
        embedding_BC = self.linear1(pooled_BH)
        return self.layer_norm(embedding_BC + self.linear2(nn.functional.gelu(embedding_BC)))


class MSCLAPTowers(Towers):
    """HTSAT audio tower, GPT-2 text tower."""

    def __init__(self, *, audio: ClapAudioConfig, text: GPT2Config, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.audio_model = ClapAudioModel(audio)
        self.audio_projection = Projection(audio.hidden_size, dim)
        self.text_model = GPT2Model(text)
        self.text_projection = Projection(text.hidden_size, dim)

    def embed_text(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Project the state at index count(ids != 0) - 1: (B, C).

        As in the reference, that is the last token only where no real token is "!" (id 0, also the padding).
        """
        states_BTH = self.text_model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        last_B = (ids_BT != 0).sum(dim=1) - 1
        return self.text_projection(states_BTH[torch.arange(len(ids_BT), device=ids_BT.device), last_B])

    def embed_audio(self, mel_BNFM: Tensor, is_longer_B: Tensor) -> Tensor:  # noqa: ARG002  fusion models' only
        """Project the pooled HTSAT state: (B, C)."""
        return self.audio_projection(self.audio_model(input_features=mel_BNFM).pooler_output)


class MSCLAPTokens(TextTokens):
    """GPT-2 tokens with the ending that the package appends to every text."""

    ENDING = " <|endoftext|>"
    NUM_ENDING_TOKENS = 2

    def prepare(self, tokenizer: Any) -> Any:
        """Make "!" the padding token, as the package does: "!!" then is two ids, never one merged id."""
        tokenizer.add_special_tokens({"pad_token": "!"})
        return tokenizer

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return one list of ids per text, unpadded; only what exceeds the position table is cut."""
        rows = self.tokenizer([text + self.ENDING for text in texts])["input_ids"]
        head = self.max_tokens - self.NUM_ENDING_TOKENS
        ending = slice(-self.NUM_ENDING_TOKENS, None)
        return [row if len(row) <= self.max_tokens else row[:head] + row[ending] for row in rows]


def build_msclap(state: Mapping[str, Tensor], source: str) -> tuple[MSCLAPTowers, list[str]]:
    """Build the towers that a native state dict describes and fill them.

    Returns:
        The towers, and the names in the file that have no use (its front end's kernels have).

    Raises:
        ModelError: Names every tensor that is missing, extra or mis-shaped.
    """
    with no_init_weights():
        towers = MSCLAPTowers(
            audio=htsat.htsat_config(state, _HTSAT),
            text=_text_config(state),
            dim=dim(state, "audio_encoder.projection.linear1.weight", 0, default=1024),
        )
    left_out = load_weights(towers, state, source=source, native_name=native_name, unused=_UNUSED)
    return towers, [name for name in left_out if name not in _KERNELS]


def msclap_log_mel(settings: dict[str, Any], state: Mapping[str, Tensor], source: str) -> LogMel:
    """Build the spectrogram; kernels and mel bank are the file's own where it has them, as in the package."""
    log_mel = LogMel.from_settings(settings)
    parts = (*log_mel.kernels.chunk(2), log_mel.bank_KM)
    expected = {NativeName(name): part for name, part in zip(_KERNELS, parts, strict=True)}
    found = {name: state[name] for name in _KERNELS if name in state}
    check_tensors(
        {native: expected[native] for native in expected if native.name in found}, found, source=source
    )
    for name, part in zip(_KERNELS, parts, strict=True):
        part.copy_(found.get(name, part))
    return log_mel


def msclap_tokens(ref: str, towers: MSCLAPTowers, owner: str) -> MSCLAPTokens:
    """Tokenise as MS-CLAP does; its padding token is "!", id 0."""
    config = towers.text_model.config
    return MSCLAPTokens(
        ref, owner=owner, vocab_size=config.vocab_size, max_tokens=config.max_position_embeddings, pad_id=0
    )


def _text_config(state: Mapping[str, Tensor]) -> GPT2Config:
    base = "caption_encoder.base."
    layers = numbers_in(state, rf"{re.escape(base)}h\.(\d+)\.")
    width = dim(state, f"{base}wte.weight", 1, default=768)
    return GPT2Config(
        vocab_size=dim(state, f"{base}wte.weight", 0, default=50257),
        n_positions=dim(state, f"{base}wpe.weight", 0, default=1024),
        n_embd=width,
        n_layer=1 + max(layers, default=11),
        n_head=max(1, width // 64),
        n_inner=dim(state, f"{base}h.0.mlp.c_fc.weight", 1, default=3072),
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
    )


def native_name(name: str) -> NativeName:
    """Return the authors' name of one of our tensors."""
    if name.startswith("audio_model.audio_encoder."):
        native = htsat.native_name(name.removeprefix("audio_model.audio_encoder."))
        return native._replace(name=_HTSAT + native.name)
    for ours, native_prefix in _PREFIXES.items():
        if name.startswith(ours):
            return NativeName(native_prefix + name.removeprefix(ours))
    raise AssertionError(name)


def _recognises(names: Collection[str]) -> bool:
    return any(name.startswith(_HTSAT) for name in names)


MSCLAP = Family(
    name="msclap",
    title="MS-CLAP 2023",
    recognises=_recognises,
    build=build_msclap,
    front_end=lambda _: FRONT_END,
    log_mel=msclap_log_mel,
    tokenizer="gpt2",
    tokens=msclap_tokens,
)
