"""The language model of a released checkpoint: its LoRA, and its own copy of base weights if it has one."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from mats_ray.config.model import LoRAConfig
from mats_ray.errors import ModelError, abbreviated
from mats_ray.models.foreign import one_error
from mats_ray.models.llm import load_llm, load_tokenizer
from mats_ray.models.startup import quiet_transformers
from mats_ray.models.weights import NativeName, check_tensors

DROPOUT = 0.1
"""Upstream's value: files do not contain it, inference does not use it."""


def architecture(path: str) -> PreTrainedModel:
    """Build a language model without weights: 7 B parameters are not read to compare names and shapes.

    Raises:
        ModelError: There is no such model.
    """
    with one_error(f"the language model {path!r}"):
        config = AutoConfig.from_pretrained(path)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)


def lora_config(lora: Mapping[str, Tensor], *, alpha: float, source: str) -> LoRAConfig:
    """Read rank and targets from the tensors.

    Raises:
        ModelError: There are none, or they are of several ranks.
    """
    ranks = sorted({tensor.shape[0] for name, tensor in lora.items() if ".lora_A." in name and tensor.dim()})
    if len(ranks) != 1:
        found = f"LoRA of ranks {abbreviated(ranks)}" if ranks else "no LoRA on the language model"
        raise ModelError(f"{source} holds {found}; a model directory needs one adapter of one rank")
    targets = sorted({re.sub(r"\.lora_[AB]\..*", "", name).rsplit(".", 1)[-1] for name in lora})
    return LoRAConfig(rank=ranks[0], alpha=alpha, dropout=DROPOUT, target_modules=tuple(targets))


def attach_lora(
    llm: PreTrainedModel, lora: Mapping[str, Tensor], config: LoRAConfig, *, source: str
) -> PeftModel:
    """Put a checkpoint's adapter on the architecture it was trained on.

    Raises:
        ModelError: Names every tensor that is missing, extra or mis-shaped.
    """
    adapter = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType] (peft types it int, uses it as a number)
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules),
        task_type="CAUSAL_LM",
    )
    try:
        with quiet_transformers():
            wrapped = get_peft_model(llm, adapter, low_cpu_mem_usage=True)
    except ValueError as error:
        raise ModelError(f"{source}: its LoRA does not fit {llm.name_or_path!r}: {error}") from error
    assert isinstance(wrapped, PeftModel)
    expected = {
        NativeName(re.sub(r"(\.lora_[AB])\.weight$", r"\1.default.weight", name)): tensor
        for name, tensor in get_peft_model_state_dict(wrapped).items()
    }
    check_tensors(expected, lora, source=source)
    floats = {name: tensor.float().contiguous() for name, tensor in lora.items()}
    wrapped.load_state_dict(floats, strict=False, assign=True)
    return wrapped


def base_model(llm: Mapping[str, Tensor], path: str, out: Path, *, source: str) -> tuple[str, list[str]]:
    """Return a checkpoint's language model: the one at ``path``, or a copy with the checkpoint's weights.

    A checkpoint may carry base weights. Equal ones need no second copy. The row that upstream adds to both
    embedding tables for its token ``[PAD]`` is left out: padding is never embedded here, and a model
    without the row cannot generate ``[PAD]``.

    Args:
        llm: Base weights in the checkpoint, by transformers' names.
        path: The language model the checkpoint was trained on.
        out: Directory of the copy, if one is needed.
        source: Name of the checkpoint in error messages.

    Returns:
        Path of the model, and the names of weights in which the checkpoint's differs from ``path``.

    Raises:
        ModelError: A weight is unknown or mis-shaped.
    """
    if not llm:
        return path, []
    model = load_llm(path, dtype="auto")
    own = model.state_dict()
    theirs = {name: _without_pad_row(tensor, own.get(name)) for name, tensor in llm.items()}
    expected = {NativeName(name): own[name] for name in own.keys() & theirs.keys()}
    check_tensors(expected, theirs, source=f"the language model in {source}")
    different = sorted(name for name in theirs if not _equal(theirs[name], own[name]))
    if not different:
        return path, []
    with torch.no_grad():
        for name in different:
            own[name].copy_(theirs[name])
    with quiet_transformers():
        model.save_pretrained(out)
    load_tokenizer(path).save_pretrained(out)
    return str(out), different


def _without_pad_row(theirs: Tensor, own: Tensor | None) -> Tensor:
    padded = own is not None and own.dim() == 2 and theirs.shape == (len(own) + 1, own.shape[1])
    return theirs[:-1] if padded else theirs


def _equal(theirs: Tensor, own: Tensor) -> bool:
    """Equal in the precision of the coarser one: either may be stored in half."""
    coarse = min(theirs.dtype, own.dtype, key=lambda dtype: dtype.itemsize)
    return torch.equal(theirs.to(coarse), own.to(coarse))
