"""``load_clap``: every kind of CLAP, recognised by content."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from mats_ray.errors import ModelError
from mats_ray.models.clap.encoder import CLAP
from mats_ray.models.clap.families import FAMILIES, read_checkpoint
from mats_ray.models.clap.hub import fetch, is_hub_id, refuse_untrained
from mats_ray.models.clap.laion_reference import load_laion_reference
from mats_ray.models.clap.pe_audio import AUDIO, AUDIO_VIDEO, load_pe_audio
from mats_ray.models.clap.settings import read_json
from mats_ray.models.clap.transformers_clap import load_transformers
from mats_ray.models.foreign import read_weight_files, weight_files
from mats_ray.models.weights import check_shards, hash_files

Implementation = Literal["native", "laion_clap"]

IN_TRANSFORMERS_FORMAT: Mapping[str, Callable[..., CLAP]] = {
    "clap": load_transformers,
    AUDIO: load_pe_audio,
    AUDIO_VIDEO: load_pe_audio,
}
"""Loaders of directories by ``model_type`` in their ``config.json``."""


def load_clap(
    ref: str | Path,
    *,
    tokenizer: str | None = None,
    quantize_int16: bool | None = None,
    implementation: Implementation = "native",
) -> CLAP:
    """Load a CLAP.

    Args:
        ref: A directory in transformers' format (``clap``, ``pe_audio``, ``pe_audio_video``) or written by
            ``convert_clap``, a hub id of such a one, one of LAION's ``.pt`` files, or
            ``CLAP_weights_2023.pth`` of MS-CLAP.
        tokenizer: Directory or hub id of the text tower's tokenizer. Default: the one inside a directory;
            "roberta-base" (LAION) or "gpt2" (MS-CLAP) for a file. It loads with the first text.
        quantize_int16: Round audio to 16 bits first. Default: as the family's package does (LAION only).
        implementation: "laion_clap" runs LAION's own package on one of its files, for comparison.

    Raises:
        ModelError: Names the ref and what is missing or does not fit.

    Example:
        >>> clap = load_clap("CLAP_weights_2023.pth", tokenizer="gpt2")  # doctest: +SKIP
    """
    path = Path(ref)
    if implementation == "laion_clap":
        return load_laion_reference(path)
    if path.is_file():
        family, state = read_checkpoint(path)
        return family.load(
            state, source=str(path), files=[path], tokenizer=tokenizer, quantize_int16=quantize_int16
        )
    refuse_untrained(str(ref))
    if not path.is_dir():
        if not is_hub_id(str(ref)):
            raise ModelError(f"no CLAP at {ref}: no such file or directory")
        path = _fetch(str(ref))
    return _load_directory(path, tokenizer=tokenizer, quantize_int16=quantize_int16)


def _load_directory(path: Path, *, tokenizer: str | None, quantize_int16: bool | None) -> CLAP:
    config = read_json(path / "config.json")
    refuse_untrained(str(config.get("_name_or_path")), str(path.resolve()))
    files = weight_files(path)
    if not files:
        raise ModelError(f"{path}: no *.safetensors file")
    check_shards(path)
    model_type = config.get("model_type")
    if load := IN_TRANSFORMERS_FORMAT.get(str(model_type)):
        return load(path, config, files, tokenizer=tokenizer, quantize_int16=quantize_int16)
    family = next((one for one in FAMILIES if one.model_type == model_type), None)
    if family is None:
        raise ModelError(f"{path}: config.json is of a {model_type!r} model, not of a CLAP")
    return family.load(
        read_weight_files(files),
        source=str(path),
        files=files,
        tokenizer=tokenizer or str(path),
        quantize_int16=quantize_int16,
    )


def local_hash(ref: str | Path) -> str | None:
    """Return the checkpoint hash of a local CLAP without loading it; None for a hub id."""
    path = Path(ref)
    files = [path] if path.is_file() else weight_files(path)
    return hash_files(files) if files else None


def _fetch(ref: str) -> Path:
    """Find the directory of a hub id, with safetensors if the hub has them."""
    settings = ["*.json", "*.txt"]
    try:
        path = fetch(ref, ["*.safetensors", *settings])
        return path if weight_files(path) else fetch(ref, ["pytorch_model*.bin", *settings])
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"no CLAP at {ref}: it is no file or directory here, is not in the local hub cache, and the hub"
            f" does not give it ({reason}); download it elsewhere and pass the directory"
        ) from error
