"""The language model: load it from transformers' format, freeze it, put LoRA on it."""

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from mats_ray.config.model import LLMConfig
from mats_ray.errors import ModelError
from mats_ray.models.gguf import gguf_arguments, is_gguf, unquantised

_HASHED = (
    "*.safetensors",
    "pytorch_model*.bin",
    "config.json",
    "*token*.json",
    "*.model",
    "vocab.*",
    "merges.txt",
)
"""Files of a folder in transformers' format that decide what a model computes."""
_HASHERS = 4


def load_llm(path: str, *, dtype: str = "float32") -> PreTrainedModel:
    """Load a causal language model from a directory or the local hub cache.

    Args:
        path: Directory in transformers' format, hub id, or a GGUF file (``models/gguf.py``).
        dtype: Of the weights; "auto" leaves them as they are stored.

    Raises:
        ModelError: There is no such model, or it cannot be read.
    """
    folder, extra = _source(path)
    try:
        llm = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **extra)
        return unquantised(llm) if extra else llm
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the language model {path!r} cannot be loaded: {_first_line(error)}") from error


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a directory or the local hub cache.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    folder, extra = _source(path)
    try:
        return AutoTokenizer.from_pretrained(folder, **extra)
    except (OSError, ValueError) as error:
        raise ModelError(f"the tokenizer {path!r} cannot be loaded: {_first_line(error)}") from error


def checkpoint_hash(path: str) -> str:
    """Hash weights, configuration and tokenizer of a language model that has been loaded: 16 hex digits.

    Every byte is read, at the speed of the disk. Where the folder lies does not matter.

    Args:
        path: As for ``load_llm``.

    Raises:
        ModelError: There is no such model.
    """
    folder, extra = _source(path)
    root = Path(folder) if Path(folder).is_dir() else Path(snapshot_download(folder, local_files_only=True))
    patterns = extra.values() or _HASHED
    files = sorted({file for pattern in patterns for file in root.glob(pattern)})
    with ThreadPoolExecutor(_HASHERS) as pool:
        lines = [
            f"{file.name} {digest}\n" for file, digest in zip(files, pool.map(_sha256, files), strict=True)
        ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def embedding_table(llm: nn.Module) -> Tensor:
    """Return the input embeddings of a language model, (vocabulary, width), detached."""
    weight: Any = llm.get_input_embeddings().weight  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    return weight.detach()


def attach(llm: PreTrainedModel, config: LLMConfig, *, generator: torch.Generator) -> nn.Module:
    """Make the language model trainable as the configuration says: LoRA on a frozen model, or all of it.

    Raises:
        ModelError: No module carries one of the target names.
    """
    if config.train == "full":
        return llm
    llm.requires_grad_(requires_grad=False)
    lora = LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,  # pyright: ignore[reportArgumentType] (peft types it int, uses it as a number)
        lora_dropout=config.lora.dropout,
        target_modules=list(config.lora.target_modules),
        task_type="CAUSAL_LM",
    )
    try:
        wrapped = get_peft_model(llm, lora)
    except ValueError as error:
        raise ModelError(f"LoRA on {config.lora.target_modules}: {_first_line(error)}") from error
    _init_lora(wrapped, generator=generator)
    return wrapped


def load_adapter(llm: PreTrainedModel, directory: Path) -> PeftModel:
    """Put a saved adapter (adapter_config.json, adapter_model.safetensors) on its frozen base.

    Raises:
        ModelError: Files are missing or do not fit the base.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (directory / name).is_file():  # peft would take the folder for a hub id and go looking there
            raise ModelError(f"the adapter in {directory} cannot be loaded: it has no {name}")
    try:
        return PeftModel.from_pretrained(llm, str(directory), is_trainable=False)
    except (OSError, ValueError, TypeError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(f"the adapter in {directory} cannot be loaded: {_first_line(error)}") from error


def merged(llm: nn.Module) -> nn.Module:
    """Add a float32 adapter to the weights it belongs to, for inference: a third of the matrix products.

    Coarser weights stay as they are beside their adapter: rounding would change what it says.
    """
    is_exact = all(weight.dtype == torch.float32 for weight in llm.parameters())
    return llm.merge_and_unload() if isinstance(llm, PeftModel) and is_exact else llm


def _init_lora(model: nn.Module, *, generator: torch.Generator) -> None:
    """Start as peft does (Kaiming for A, zeros for B), but from a given source of chance."""
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=generator)
        elif "lora_B" in name:
            nn.init.zeros_(parameter)


def _source(path: str) -> tuple[str, dict[str, str]]:
    if is_gguf(path):
        return gguf_arguments(path)
    _check_local(path)
    return path, {}


def _check_local(path: str) -> None:
    """Say so plainly when what can only be a path is not there; hub ids are 'name' or 'org/name'."""
    looks_local = path.startswith((".", "/", "~")) or path.count("/") > 1
    if looks_local and not Path(path).is_dir():
        raise ModelError(f"no directory {path}")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
