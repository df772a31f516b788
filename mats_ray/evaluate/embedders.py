"""Text embedders for label matching: CLAP's text tower, a sentence encoder, an OpenAI-compatible endpoint.

Shapes: N texts, C embedding dim.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mats_ray.config.model import CLAPConfig
from mats_ray.errors import ConfigError, MATSError
from mats_ray.evaluate.benchmark import TextEmbedder
from mats_ray.evaluate.extra import require
from mats_ray.models.startup import quiet_transformers

CLAP = "clap"
_BATCH_SIZE = 256


@lru_cache(maxsize=1)
def load_embedder(ref: str, *, clap: CLAPConfig | None) -> TextEmbedder:
    """Load an embedder; the last one is kept, as all variants of a model have the same.

    Args:
        ref: ``clap``; folder or hub name of a sentence-transformers model; or ``MODEL@URL`` of an
            OpenAI-compatible endpoint, whose key is in ``OPENAI_API_KEY``.
        clap: CLAP of the evaluated model, for ``clap``.

    Raises:
        ConfigError: It is not there, or ``clap`` is wanted where no model is known.
        ModelError: The CLAP cannot be loaded.
    """
    if ref == CLAP:
        if clap is None:
            raise ConfigError(
                "embedder 'clap' is the text tower of the evaluated model's CLAP, and no model is known; "
                "give --embedder FOLDER of a sentence encoder, or MODEL@URL"
            )
        return _CLAPEmbedder(clap)
    model, at, url = ref.partition("@")
    return _EndpointEmbedder(model, url) if at and "://" in url else _SentenceEmbedder(ref)


class _CLAPEmbedder:
    def __init__(self, config: CLAPConfig) -> None:
        from mats_ray.models.build import build_clap

        self._clap = build_clap(config)
        self.name = f"CLAP text tower, {self._clap.identity}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return _unit(self._clap.encode_text(list(texts)).cpu().numpy())


class _SentenceEmbedder:
    def __init__(self, ref: str) -> None:
        library = require("sentence_transformers")
        try:
            with quiet_transformers():
                self._model = library.SentenceTransformer(ref, device="cpu")
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"embedder {ref!r} is no sentence-transformers model: {error}") from error
        self.name = f"sentence encoder {ref.rstrip('/').rpartition('/')[2]}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        found = self._model.encode(list(texts), batch_size=_BATCH_SIZE, show_progress_bar=False)
        return _unit(np.asarray(found))


@dataclass(frozen=True)
class _EndpointEmbedder:
    model: str
    url: str

    @property
    def name(self) -> str:
        return f"{self.model} at {self.url}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        client, rows = open_client(self.url), list[np.ndarray]()
        for start in range(0, len(texts), _BATCH_SIZE):
            batch = list(texts[start : start + _BATCH_SIZE])
            try:
                found = client.embeddings.create(model=self.model, input=batch, encoding_format="float")
            except require("openai").OpenAIError as error:
                raise EndpointError(f"embedder {self.name}: {error}") from error
            rows += [np.array(one.embedding, np.float32) for one in found.data]
        return _unit(np.stack(rows))


class EndpointError(MATSError):
    """An OpenAI-compatible endpoint that refuses or cannot be reached."""


def open_client(url: str) -> Any:
    """Return a client of the openai package for an endpoint; a local one may need no key."""
    return require("openai").OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none"))


def _unit(rows_NC: np.ndarray) -> np.ndarray:
    rows_NC = rows_NC.astype(np.float32)
    return rows_NC / np.maximum(np.linalg.norm(rows_NC, axis=1, keepdims=True), 1e-12)
