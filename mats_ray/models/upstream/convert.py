"""A released MATS checkpoint becomes a model directory (``mats convert upstream``)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from mats_ray.config.generation import GenerationConfig
from mats_ray.config.model import CLAPConfig, LLMConfig, LoRAConfig, ModelConfig
from mats_ray.config.santa import SantaConfig
from mats_ray.errors import ModelError
from mats_ray.models.build import build_connector
from mats_ray.models.clap import CLAP, load_clap
from mats_ray.models.clap.families import read_checkpoint
from mats_ray.models.directory import SANTA, ModelSettings, save_model
from mats_ray.models.foreign import read_torch_file, unwrap, weight_files
from mats_ray.models.llm import embedding_table, load_tokenizer
from mats_ray.models.mats import MATS
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.models.santa import SantaMemory
from mats_ray.models.upstream.keys import Parts, mapper_config, sort_keys
from mats_ray.models.upstream.llm import architecture, attach_lora, base_model, lora_config
from mats_ray.models.upstream.santa_memory import UPSTREAM_NOISE_VARIANCE, build_memory, read_rows
from mats_ray.models.weights import CONSTANTS, hash_files, load_weights, read_safetensors
from mats_ray.version import __version__

REPORT = "conversion.json"

_CARD = """---
library_name: mats_ray
tags: [audio-captioning, audio-question-answering, text-only-training]
---
# {name}

Converted from a checkpoint of upstream MATS (Wang et al., ICML 2025, arXiv 2502.13433); `conversion.json`
lists what became of each tensor. Base models, whose licences apply: CLAP `{clap}`, language model `{llm}`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamOptions:
    """Facts that a released checkpoint does not contain."""

    clap: str
    """The CLAP it was trained with: anything ``load_clap`` loads."""
    clap_tokenizer: str | None = None
    """Tokenizer of the CLAP's text tower where no hub has the family's own; kept in the model directory."""
    llm: str
    """The language model it was trained on: directory or hub id in transformers' format."""
    santa: Path | None = None
    """Upstream's memory file; without one, Santa is off, as in upstream's released settings."""
    compat: Literal["paper", "upstream"] = "paper"
    """Santa as in the paper, or as in upstream's code."""
    lora_alpha: float = LoRAConfig().alpha
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the language model's frozen weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamReport:
    """Result of ``convert_upstream`` for each tensor; also written into the directory."""

    source: str
    source_hash: str
    model_directory: str
    connector: list[str]
    lora: list[str]
    llm_equal: list[str]
    """Base weights equal to the referred model's: not stored again."""
    llm_different: list[str]
    """Base weights of the checkpoint's own; if any, ``llm/`` in the directory is a copy with them."""
    clap_different: list[str]
    """Tensors in which the checkpoint's CLAP differs from the one given. The one given is used."""
    clap_left_out: list[str]
    unused: list[str]
    """Tensors upstream itself never uses."""
    memory_rows: int

    def __str__(self) -> str:
        """Summarise in a few lines."""
        lines = [
            f"{self.source} (sha256 {self.source_hash}...) -> {self.model_directory}",
            f"mapper and projection: {len(self.connector)} tensors; LoRA: {len(self.lora)}",
            f"base language model: {len(self.llm_equal)} equal to the one referred to,"
            f" {len(self.llm_different)} of its own"
            + (", stored with the rest in llm/" if self.llm_different else ""),
            f"CLAP: {len(self.clap_left_out)} tensors left out in favour of the one referred to",
            f"unused by upstream itself: {len(self.unused)}",
            f"Santa memory: {self.memory_rows or 'no'} texts"
            + ("" if self.memory_rows else ", Santa is off"),
        ]
        if self.clap_different:
            lines.append(
                f"WARNING: CLAP in the checkpoint is not the one referred to: {len(self.clap_different)}"
                f" tensors differ, the first is {self.clap_different[0]}"
            )
        return "\n".join(lines)


def convert_upstream(checkpoint: str | Path, out_dir: str | Path, options: UpstreamOptions) -> UpstreamReport:
    """Convert a released checkpoint, ``{"model": {name: tensor}}``, to a model directory.

    Args:
        checkpoint: The file.
        out_dir: The directory; it must not exist or be empty.
        options: Base models, Santa memory, and what else the file does not contain.

    Raises:
        ModelError: Names every tensor that is unknown, missing or mis-shaped; or the directory is not empty.
    """
    checkpoint, out_dir = Path(checkpoint), Path(out_dir)
    if not checkpoint.is_file():
        raise ModelError(f"no such file: {checkpoint}")
    if out_dir.exists() and any(out_dir.iterdir()):
        raise ModelError(f"{out_dir} is not empty")
    source = str(checkpoint)
    parts = sort_keys(unwrap(read_torch_file(checkpoint), source=source), source=source)
    clap = load_clap(options.clap, tokenizer=options.clap_tokenizer)
    memory = _memory(options, dim=clap.dim)
    model, config, different = _assemble(parts, clap, options, out_dir, source=source)
    _write(out_dir, model, config, clap, options)
    if memory is not None:
        memory.save(out_dir / SANTA)
    report = UpstreamReport(
        source=checkpoint.name,
        source_hash=hash_files([checkpoint]),
        model_directory=str(out_dir),
        connector=sorted(parts.connector),
        lora=sorted(parts.lora),
        llm_equal=sorted(parts.llm.keys() - set(different)),
        llm_different=different,
        clap_different=_differing(parts.clap, options.clap),
        clap_left_out=sorted(parts.clap),
        unused=sorted(parts.unused),
        memory_rows=len(memory.embeddings_NC) if memory is not None else 0,
    )
    (out_dir / REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    return report


def _memory(options: UpstreamOptions, *, dim: int) -> SantaMemory | None:
    if options.santa is None:
        return None
    rows_NC = read_rows(options.santa, dim=dim)
    return build_memory(rows_NC, compat=options.compat, source=options.santa.name)


def _assemble(
    parts: Parts, clap: CLAP, options: UpstreamOptions, out_dir: Path, *, source: str
) -> tuple[MATS, ModelConfig, list[str]]:
    """Build the model, the language model without weights, and fill what was trained."""
    mapper, clap_dim = mapper_config(parts.connector, source=source)
    if clap_dim != clap.dim:
        raise ModelError(f"{source} was trained with a {clap_dim}-d CLAP; {options.clap} is {clap.identity}")
    lora = lora_config(parts.lora, alpha=options.lora_alpha, source=source)
    llm = architecture(options.llm)
    connector = build_connector(mapper, clap_dim=clap_dim, llm_dim=embedding_table(llm).shape[1])
    load_weights(connector, parts.connector, source=source)
    adapted = attach_lora(llm, parts.lora, lora, source=source)
    path, different = base_model(parts.llm, options.llm, out_dir / "llm", source=source)
    config = ModelConfig(
        clap=CLAPConfig(ref=options.clap, dim=clap_dim, tokenizer=options.clap_tokenizer),
        mapper=mapper,
        llm=LLMConfig(path=path, dtype=options.dtype, lora=lora, prompt_format="vicuna"),
    )
    # the prompt comes from the tokenizer; a model that is only saved needs none
    return MATS(connector, adapted, before_ids=[], eos_id=0), config, different


def _write(out_dir: Path, model: MATS, config: ModelConfig, clap: CLAP, options: UpstreamOptions) -> None:
    santa = SantaConfig(
        enabled=options.santa is not None,
        compat=options.compat,
        neighbour_noise_variance=UPSTREAM_NOISE_VARIANCE if options.compat == "upstream" else 0,
    )
    settings = ModelSettings(
        name=out_dir.name,
        version=__version__,
        model=config,
        santa=santa,
        generation=GenerationConfig(),
        clap=clap.identity,
    )
    save_model(out_dir, model, PromptTokenizer(load_tokenizer(options.llm)), settings)
    (out_dir / "README.md").write_text(
        _CARD.format(name=out_dir.name, clap=options.clap, llm=options.llm), "utf-8"
    )


def _differing(tensors: Mapping[str, Tensor], ref: str) -> list[str]:
    """Name the tensors of the checkpoint's CLAP that differ in the one referred to."""
    path = Path(ref)
    if not tensors or not path.exists():
        return []
    own = read_checkpoint(path)[1] if path.is_file() else read_safetensors(weight_files(path))
    shared = [name for name in tensors if name in own and not name.endswith(CONSTANTS)]
    return sorted(
        name
        for name in shared
        if tensors[name].shape != own[name].shape
        or not torch.allclose(tensors[name].float(), own[name].float(), rtol=1e-3, atol=1e-5)
    )
