"""Turn a published checkpoint into a directory of safetensors for ``load_clap``."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from mats_ray.errors import ModelError
from mats_ray.models.clap.families import read_checkpoint
from mats_ray.models.clap.tokens import find_tokenizer
from mats_ray.models.weights import hash_files

REPORT = "conversion.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionReport:
    """Result of ``convert_clap``; also written into the directory."""

    family: str
    source: str
    source_hash: str
    num_tensors: int
    left_out: list[str]
    """Names of the file's tensors that embeddings do not need."""
    tokenizer: str | None
    """Origin of the tokenizer in the directory, if it has one."""

    def __str__(self) -> str:
        """Summarise in one paragraph."""
        tokens = (
            f"tokenizer from {self.tokenizer}"
            if self.tokenizer
            else "NO tokenizer: texts cannot be encoded until one is saved into the directory"
        )
        return (
            f"{self.family} CLAP from {self.source} (sha256 {self.source_hash}...):"
            f" {self.num_tensors} tensors written, {len(self.left_out)} left out as unused, {tokens}"
        )


def convert_clap(file: str | Path, out_dir: str | Path, *, tokenizer: str | None = None) -> ConversionReport:
    """Convert LAION's ``.pt`` or MS-CLAP's ``.pth`` to a directory.

    LAION's becomes what ``transformers.ClapModel.from_pretrained`` reads. MS-CLAP's, for which transformers
    has no model, keeps its native names.

    Args:
        file: The checkpoint.
        out_dir: The directory; it must not exist or be empty.
        tokenizer: Directory or hub id of the tokenizer to put in; by default the family's, if it can be had.

    Raises:
        ModelError: Names every tensor that is missing, extra or mis-shaped; or the directory is not empty.
    """
    file, out_dir = Path(file), Path(out_dir)
    _check_paths(file, out_dir)
    family, state = read_checkpoint(file)
    out_dir.mkdir(parents=True, exist_ok=True)
    towers, left_out = family.build(state, str(file))
    if family.convert is not None:
        num_tensors = family.convert(towers, out_dir)
    else:
        _write_json(out_dir / "config.json", {"model_type": family.model_type, "projection_dim": towers.dim})
        tensors = {name: part.contiguous() for name, part in state.items() if name not in left_out}
        save_file(tensors, out_dir / "model.safetensors", metadata={"format": "pt"})
        num_tensors = len(tensors)
    _write_json(out_dir / "preprocessor_config.json", family.front_end(towers))
    report = ConversionReport(
        family=family.name,
        source=file.name,
        source_hash=hash_files([file]),
        num_tensors=num_tensors,
        left_out=left_out,
        tokenizer=_write_tokenizer(tokenizer, family.tokenizer, out_dir),
    )
    _write_json(out_dir / REPORT, asdict(report))
    return report


def _check_paths(file: Path, out_dir: Path) -> None:
    if file.is_dir():
        raise ModelError(f"{file} is a directory, which needs no conversion: pass it as clap.ref")
    if not file.is_file():
        raise ModelError(f"no such file: {file}")
    if out_dir.exists() and any(out_dir.iterdir()):
        raise ModelError(f"{out_dir} is not empty")


def _write_tokenizer(ref: str | None, default: str, out_dir: Path) -> str | None:
    try:
        found = find_tokenizer(ref or default, owner=str(out_dir))
    except ModelError:
        if ref is not None:
            raise
        return None
    found.save_pretrained(out_dir)
    return ref or default


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
