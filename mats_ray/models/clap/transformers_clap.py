"""CLAP in transformers' format: ``ClapModel`` as towers, its tokens, and a directory that holds one.

The directory: config.json, weights, preprocessor_config.json or processor_config.json (front end) and a
tokenizer. Shapes: B batch, T tokens, N mel channels, F frames, M mel bands, H tower width, C joint space.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import ClapConfig, ClapModel
from transformers.initialization import no_init_weights

from mats_ray.models.clap.frontend import LogMel
from mats_ray.models.clap.settings import MelSettings, check_settings, read_front_end
from mats_ray.models.clap.tokens import TextTokens
from mats_ray.models.clap.tower_clap import TowerCLAP, Towers
from mats_ray.models.foreign import one_error, read_weight_files
from mats_ray.models.weights import hash_files, load_weights
from mats_ray.types import CLAPIdentity

MAX_TEXT_TOKENS = 77
"""Number of tokens that LAION cut its training texts to."""


class TransformersTowers(Towers):
    """``transformers.ClapModel``: HTSAT audio tower, RoBERTa text tower."""

    def __init__(self, clap: ClapModel) -> None:
        super().__init__()
        self.clap = clap
        self.dim = clap.config.projection_dim

    def embed_text(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Project the state of the first token: (B, C)."""
        pooled_BH = self.clap.text_model(input_ids=ids_BT, attention_mask=mask_BT).pooler_output
        return self.clap.text_projection(pooled_BH)

    def embed_audio(self, mel_BNFM: Tensor, is_longer_B: Tensor) -> Tensor:
        """Project the pooled HTSAT state: (B, C)."""
        pooled_BH = self.clap.audio_model(
            input_features=mel_BNFM, is_longer=is_longer_B[:, None]
        ).pooler_output
        return self.clap.audio_projection(pooled_BH)


def roberta_tokens(ref: str, towers: TransformersTowers, owner: str) -> TextTokens:
    """Tokenise as LAION does, within the positions of the text tower."""
    text: Any = towers.clap.config.text_config
    # RoBERTa counts positions from pad_token_id + 1.
    positions = text.max_position_embeddings - text.pad_token_id - 1
    return TextTokens(
        ref,
        owner=owner,
        vocab_size=text.vocab_size,
        max_tokens=min(MAX_TEXT_TOKENS, positions),
        pad_id=text.pad_token_id,
    )


def load_transformers(
    path: Path,
    tree: Mapping[str, Any],
    files: list[Path],
    *,
    tokenizer: str | None,
    quantize_int16: bool | None,
) -> TowerCLAP:
    """Load a directory; see ``load_clap``.

    Args:
        path: The directory.
        tree: Content of its config.json.
        files: Its weights.
        tokenizer: Directory or hub id; the directory's own where None.
        quantize_int16: None: as set in its front end.

    Raises:
        ModelError: Something is missing or does not fit; the message names it.
    """
    with one_error(f"the CLAP in {path}"):
        config = ClapConfig.from_dict(dict(tree))
    audio: Any = config.audio_config
    settings, file = read_front_end(path)
    check_settings(settings, audio, source=str(file))
    with one_error(f"the CLAP in {path}"), no_init_weights():
        clap = ClapModel(config)
    load_weights(clap, read_weight_files(files), source=str(path))
    towers = TransformersTowers(clap)
    return TowerCLAP(
        towers,
        # only models converted from LAION's files have this key: they convolve as that package does
        log_mel=LogMel.from_settings(settings, convolve="quantize_int16" in settings),
        clips=MelSettings.of(settings, quantize_int16=quantize_int16),
        tokens=roberta_tokens(tokenizer or str(path), towers, str(path)),
        identity=CLAPIdentity(family="transformers", checkpoint_hash=hash_files(files), dim=towers.dim),
    )
