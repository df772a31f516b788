"""The state of a run's bridge: built from texts, audio or pairs, written to one file, and checked.

Santa and the projection have a memory of texts (``santa_memory``); the audio of other bridges is read here.
"""

import heapq
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from mats_ray.config import RunConfig
from mats_ray.config.bridge import BridgeName
from mats_ray.data.audio import decode_audio, read_audio
from mats_ray.data.audio_files import local_path
from mats_ray.data.audio_listing import AudioListing, audio_objects
from mats_ray.data.manifest import is_manifest, read_manifest
from mats_ray.data.santa_memory import CLAP, build_memory, draw_texts
from mats_ray.data.triplets import check_identity, row_key
from mats_ray.errors import ConfigError, DataError
from mats_ray.models import clap as encoders
from mats_ray.models.bridges.mean_shift import MeanShift
from mats_ray.models.bridges.spectral import Spectral
from mats_ray.models.bridges.table import load_provenance
from mats_ray.models.build import build_clap
from mats_ray.progress import Progress
from mats_ray.storage import is_remote, read_bytes, write_file
from mats_ray.types import AudioClip, CLAPIdentity

TEXT_COLUMNS = ("text", "caption")
"""Names of the column of texts in a file of pairs; the first that a row has."""


def build_state(config: RunConfig) -> str:
    """Build the state of ``model.bridge`` and write ``config.memory_path``; returns what it is made of.

    Raises:
        ConfigError: There is no bridge, or ``memory.audio`` or ``memory.pairs`` is not set.
        DataError: Texts, audio or pairs are missing, or too few.
        AudioError: A clip cannot be decoded; it is named.
    """
    bridge = config.bridge
    if bridge == "mean_shift":
        return _build_mean_shift(config)
    if bridge == "spectral":
        return _build_spectral(config)
    if bridge == "none":
        raise ConfigError("model.bridge is none: there is nothing to build")
    memory = build_memory(config)
    rows, clusters = len(memory.embeddings_NC), len(memory.centroids_KC)
    return f"{rows} texts in {clusters} clusters" if bridge == "santa" else f"{rows} texts, without noise"


def _build_mean_shift(config: RunConfig) -> str:
    root = _named("audio", "mean_shift", "audio, a folder or a manifest, without texts", config.memory.audio)
    text_NC, identity = draw_texts(config)
    clap = _encoder(config)
    check_identity(identity, clap.identity, where=config.embedded_path)
    paths = [path for path, _ in _drawn(((path, "") for path in _listed(root)), config)]
    audio_MC = _encode(paths, clap, config)
    counts = {"texts": str(len(text_NC)), "clips": str(len(paths))}
    state = MeanShift.fit(torch.from_numpy(text_NC), audio_MC, provenance={CLAP: str(identity), **counts})
    _write(config, state)
    return f"means of {len(text_NC)} texts and {len(paths)} clips"


def _listed(root: str) -> Iterator[str]:
    """Yield the audio below a folder or prefix, or that a manifest names."""
    if is_manifest(root):
        yield from (path for block in read_manifest(root) for path in block.rows.keys() - block.repeated)
    else:
        yield from (one.path for block in AudioListing(root).blocks() for one in audio_objects(block))


def _build_spectral(config: RunConfig) -> str:
    file = _named("pairs", "spectral", "a JSONL, CSV or Parquet file of path and text", config.memory.pairs)
    pairs = _drawn(read_pairs(file), config)
    if len(pairs) < 2:
        raise DataError(
            f"{file} names {len(pairs)} pair; a spectral bridge needs at least 2, better a hundred"
        )
    clap = _encoder(config)
    audio_PC = _encode([path for path, _ in pairs], clap, config)
    text_PC = clap.encode_text([text for _, text in pairs]).cpu()
    provenance = {CLAP: str(clap.identity), "pairs": str(len(pairs))}
    try:
        state = Spectral.fit(audio_PC, text_PC, numbers=config.spectral, provenance=provenance)
    except ValueError as error:
        raise DataError(f"{file}: {error}") from error
    _write(config, state)
    return f"{len(state.covariance_K)} axes of {len(pairs)} pairs, {state.num_axes} of them used"


def read_pairs(file: str) -> Iterator[tuple[str, str]]:
    """Read (path, text) of a manifest with a column ``text`` or ``caption``; a path's first row counts.

    Raises:
        DataError: It cannot be read, or a row has no text.
    """
    for block in read_manifest(file):
        for path, (row, *_) in block.rows.items():
            columns = json.loads(row.columns or "{}")
            text = next((columns[name] for name in TEXT_COLUMNS if name in columns), None)
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{file}: {row.path} has no text in a column {' or '.join(TEXT_COLUMNS)}")
            if path not in block.repeated:
                yield path, text


def _named(key: str, bridge: BridgeName, what: str, value: str | None) -> str:
    if value is None:
        raise ConfigError(f"the bridge {bridge!r} needs {what}: set memory.{key}")
    return value


def _drawn(clips: Iterable[tuple[str, str]], config: RunConfig) -> list[tuple[str, str]]:
    """Draw at most ``memory.num_clips`` of (path, text) by a hash of seed and path."""
    return heapq.nsmallest(
        config.memory.num_clips, clips, key=lambda clip: row_key(f"{config.seed}:{clip[0]}")
    )


def _encoder(config: RunConfig) -> encoders.CLAP:
    return build_clap(config.clap).to("cuda" if torch.cuda.is_available() else "cpu")


def _encode(paths: list[str], clap: encoders.CLAP, config: RunConfig) -> Tensor:
    """Embed clips one by one: (N, C) on the CPU; no more than one is in memory."""
    rows: list[Tensor] = []
    with Progress("embed audio", total=len(paths), unit="clip") as progress:
        for path in paths:
            clip = _read(path)
            rows.append(
                clap.encode_audio(
                    [clip.samples],
                    clip.sample_rate,
                    names=[path],
                    long_audio=config.clap.long_audio,
                ).cpu()
            )
            progress.advance(1)
    return torch.cat(rows)


def _read(path: str) -> AudioClip:
    return decode_audio(read_bytes(path), name=path) if is_remote(path) else read_audio(local_path(path))


def _write(config: RunConfig, state: MeanShift | Spectral) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / "state.safetensors"
        state.save(local)
        write_file(config.memory_path, local)


def check_state(config: RunConfig, clap: CLAPIdentity) -> None:
    """Refuse a bridge that does not belong to the embeddings a model is trained on.

    Raises:
        DataError: It was made of another CLAP's embeddings.
        ModelError: The file is no state of the bridge, or cut off.
    """
    path = config.memory_path
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / "state.safetensors"
        local.write_bytes(read_bytes(path))
        made_with = load_provenance(config.bridge, local).get(CLAP, str(clap))
    if made_with != str(clap):
        what = "Santa memory" if config.bridge == "santa" else f"state of the bridge {config.bridge!r}"
        raise DataError(
            f"the {what} {path} was made with {made_with}, not with {clap}; run `mats memory` again"
        )
