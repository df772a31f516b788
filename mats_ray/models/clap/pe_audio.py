"""PE-AV and PE-A-Frame (Meta, arXiv 2512.19687) in transformers' format: the audio tower reads waveforms.

A convolutional codec encoder makes a vector of every 40 ms, a transformer reads these behind a class token;
texts are read by ModernBERT. What differs from transformers 5.23 on the same weights is in docs/fidelity.md.

Shapes: B batch, T samples or tokens, F frames of 40 ms, H tower width, C joint space.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PeAudioConfig, PeAudioModel
from transformers.initialization import no_init_weights
from transformers.models.pe_audio.modeling_pe_audio import PeAudioEncoderEmbedder

from mats_ray.errors import ModelError, abbreviated
from mats_ray.models.clap.settings import ClipSettings, read_front_end
from mats_ray.models.clap.tokenized_clap import TokenizedCLAP, TokenizedTowers
from mats_ray.models.clap.tokens import TextTokens
from mats_ray.models.foreign import one_error, read_weight_files
from mats_ray.models.weights import NativeName, hash_files, load_weights
from mats_ray.types import CLAPIdentity

AUDIO, AUDIO_VIDEO = "pe_audio", "pe_audio_video"
"""``model_type`` of PE-A-Frame, and of PE-AV, whose audio part is the same model."""

WINDOW_SECONDS = 10.0
"""Our choice, LAION's window: the tower reads any length."""
MAX_TEXT_TOKENS = 512
"""Number of tokens that Meta cuts texts to."""
MAX_SAMPLE_RATE = 192_000

_FRAME_LEVEL = "PeAudioFrameLevelModel"
_OF_VIDEO = (
    r"(video_model|audio_video_encoder|(text_)?audio_video_head|(audio|video)_plus_text_head)\..*"
    r"|((text_)?audio_video|(audio|video)_plus_text)_logit_(scale|bias)"
    r"|audio_model\.text_model\..*"  # the text tower once more, where a file repeats what is tied
)


class ClipwiseEmbedder(PeAudioEncoderEmbedder):
    """The codec encoder over each clip alone.

    Zeros behind a clip become features, by the convolutions' biases, and would reach into its last frames.
    One by one also bounds memory: the first layers hold 64 numbers per sample.
    """

    def forward(self, input_values: Tensor, padding_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return features (B, F, H) and their mask (B, F), of waveforms (B, 1, T) and theirs (B, T)."""
        codec: Any = self.config.dac_config
        hop = codec.hop_length
        if padding_mask is None:
            padding_mask = torch.ones_like(input_values[:, 0], dtype=torch.long)
        mask_BF = padding_mask[:, ::hop]
        clips = [
            super(ClipwiseEmbedder, self).forward(values_1T[None, :, : num_frames * hop])[0][0]
            for values_1T, num_frames in zip(input_values, mask_BF.sum(1).tolist(), strict=True)
        ]
        padded_BFH = nn.utils.rnn.pad_sequence(clips, batch_first=True)
        return padded_BFH, mask_BF[:, : padded_BFH.shape[1]]


class PeAudioTowers(TokenizedTowers):
    """``transformers.PeAudioModel``.

    Args:
        clap: The model.
        frame_level: It was trained to embed frames, not clips: a clip's embedding is the mean of its frames'.
    """

    def __init__(self, clap: PeAudioModel, *, frame_level: bool) -> None:
        super().__init__()
        self.clap = clap
        self.frame_level = frame_level
        text: Any = clap.config.text_config
        self.dim = text.hidden_size
        codec: Any = clap.audio_encoder.config.dac_config
        self.hop = codec.hop_length

    def embed_text(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Project the state of the first token behind the last layer, as the model's ``forward``: (B, C).

        Its ``get_text_audio_embeds`` fails: it reads hidden states that it does not request. Requested, they
        come by hooks, and a model with hooks cannot be pickled.
        """
        outputs = self.clap.text_model(input_ids=ids_BT, attention_mask=mask_BT)
        return self.clap.text_audio_head(outputs.last_hidden_state[:, 0])

    def embed_audio(self, waveforms_B1T: Tensor, mask_BT: Tensor) -> Tensor:
        """Project the state of the class token, or of each frame and average: (B, C)."""
        outputs = self.clap.audio_encoder(input_values=waveforms_B1T, padding_mask=mask_BT)
        if not self.frame_level:
            return self.clap.audio_head(outputs.pooler_output)
        mask_BF1 = outputs.output_mask[..., None]
        frames_BFC = self.clap.audio_head(outputs.last_hidden_state) * mask_BF1
        return frames_BFC.sum(1) / mask_BF1.sum(1)


class PeAudioCLAP(TokenizedCLAP[PeAudioTowers]):
    """Two towers and a tokenizer; clips go in as they are."""

    def _embed_pieces(self, pieces: Sequence[np.ndarray], *, center: bool) -> Tensor:  # noqa: ARG002
        clips = [reflect_pad(piece, self.towers.hop) for piece in pieces]
        waveforms_B1T = torch.zeros(len(clips), 1, max(len(clip) for clip in clips))
        mask_BT = torch.zeros(waveforms_B1T[:, 0].shape, dtype=torch.long)
        for row, clip in enumerate(clips):
            waveforms_B1T[row, 0, : len(clip)] = torch.from_numpy(clip)
            mask_BT[row, : len(clip)] = 1
        return self.towers.embed_audio(waveforms_B1T.to(self.device), mask_BT.to(self.device))


def reflect_pad(samples: np.ndarray, hop: int) -> np.ndarray:
    """Lengthen a clip to a whole number of frames by its own end, backwards: (T,) -> (T',)."""
    return np.pad(samples, (0, -len(samples) % hop), "reflect")


def load_pe_audio(
    path: Path,
    tree: Mapping[str, Any],
    files: list[Path],
    *,
    tokenizer: str | None,
    quantize_int16: bool | None,
) -> PeAudioCLAP:
    """Load a directory; see ``load_clap``.

    Args:
        path: The directory.
        tree: Content of its config.json.
        files: Its weights.
        tokenizer: Directory or hub id; the directory's own where None.
        quantize_int16: None: no.

    Raises:
        ModelError: Something is missing or does not fit; the message names it.
    """
    with one_error(f"the CLAP in {path}"), no_init_weights():
        clap = PeAudioModel(_config(tree)).float()
        clap.audio_encoder.embedder = ClipwiseEmbedder(clap.audio_encoder.config)
    towers = PeAudioTowers(clap, frame_level=_FRAME_LEVEL in (tree.get("architectures") or ()))
    rate = _sample_rate(path, hop=towers.hop)
    _fill(clap, read_weight_files(files), source=str(path), with_video=tree["model_type"] == AUDIO_VIDEO)
    return PeAudioCLAP(
        towers,
        clips=ClipSettings(
            sample_rate=rate,
            window_samples=round(WINDOW_SECONDS * rate),
            resampler="soxr",
            quantize_int16=bool(quantize_int16),
        ),
        tokens=_tokens(tokenizer or str(path), clap.config.text_config, owner=str(path)),
        identity=CLAPIdentity(family="pe_audio", checkpoint_hash=hash_files(files), dim=towers.dim),
    )


def _config(tree: Mapping[str, Any]) -> PeAudioConfig:
    if tree["model_type"] == AUDIO_VIDEO:
        both = tree["audio_video_config"]
        tree = {"text_config": tree["text_config"], "audio_config": both["audio_config"]}
    return PeAudioConfig.from_dict(dict(tree))


def _sample_rate(path: Path, *, hop: int) -> int:
    settings, file = read_front_end(path)
    rate, given = settings.get("sampling_rate"), settings.get("hop_length")
    if type(rate) is not int or not 0 < rate <= MAX_SAMPLE_RATE:
        raise ModelError(f"{file}: sampling_rate is {abbreviated([rate])}, not from 1 to {MAX_SAMPLE_RATE}")
    if given != hop:
        raise ModelError(f"{file}: hop_length is {abbreviated([given])}, the audio tower's is {hop}")
    return rate


def _tokens(ref: str, text: Any, *, owner: str) -> TextTokens:
    return TextTokens(
        ref,
        owner=owner,
        vocab_size=text.vocab_size,
        max_tokens=min(MAX_TEXT_TOKENS, text.max_position_embeddings),
        pad_id=text.pad_token_id or 0,
    )


def _fill(clap: PeAudioModel, state: dict[str, Tensor], *, source: str, with_video: bool) -> None:
    """Copy the weights. With video the audio part is below ``audio_model.``, the text tower beside it.

    Then take ModernBERT's last norm away: texts are read before it, as in Meta's code and in the transformers
    of that time. 5.23 reads them behind it; a configuration may demand that.
    """

    def name_in_file(name: str) -> NativeName:
        is_text = name.startswith("text_model.")
        return NativeName(name if is_text or not with_video else f"audio_model.{name}")

    load_weights(
        clap, state, source=source, native_name=name_in_file, unused=_OF_VIDEO if with_video else None
    )
    if not getattr(clap.config.text_config, "tie_last_hidden_states", None):
        clap.text_model.final_norm = nn.Identity()
