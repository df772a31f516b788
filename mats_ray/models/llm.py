"""The language model: load it from transformers' format, freeze it, put LoRA on it."""

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from mats_ray.config.model import LLMConfig
from mats_ray.errors import ModelError, abbreviated
from mats_ray.models.foreign import one_error
from mats_ray.models.gguf import gguf_arguments, gguf_config, is_gguf, unquantised, unread_tensors
from mats_ray.models.startup import quiet_transformers
from mats_ray.models.weights import (
    NativeName,
    check_shards,
    check_tensors,
    hash_files,
    not_finite,
    odd_types,
    read_safetensors,
    refuse_misfits,
)

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

ADAPTER_CONFIG, ADAPTER = "adapter_config.json", "adapter_model.safetensors"
_MERGE_TOLERANCE = 1e-3
"""Share of the largest logit: a hundredth of it is rounding; a wrong merge is off by all of it."""

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


def load_llm(path: str, *, dtype: str = "float32") -> PreTrainedModel:
    """Load a causal language model from a directory or the local hub cache.

    Args:
        path: Directory in transformers' format, hub id, or a GGUF file (``models/gguf.py``).
        dtype: Precision of the weights; "auto" leaves them as they are stored.

    Raises:
        ModelError: There is no such model, it cannot be read, or its files do not hold exactly its weights.
    """
    folder, extra = _source(path)
    source = f"the language model {path!r}"
    file = Path(folder) / extra["gguf_file"] if extra else None
    if file is None:
        _check_folder(Path(folder), source=source)
    else:
        extra |= {"config": gguf_config(file)}
    with one_error(source), quiet_transformers():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **extra
        )
        llm, found = loaded
    _check_weights(llm, found, folder=Path(folder), source=source, unread=unread_tensors(file, llm))
    return llm if file is None else unquantised(llm)


def load_llm_config(path: str) -> PreTrainedConfig:
    """Read the architecture of a language model, for a path as in ``load_llm``.

    Raises:
        ModelError: There is no such model, or its configuration cannot be read.
    """
    folder, extra = _source(path)
    if extra:
        return gguf_config(Path(folder) / extra["gguf_file"])
    with one_error(f"the language model {path!r}"):
        return AutoConfig.from_pretrained(folder)


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a directory or the local hub cache.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    folder, extra = _source(path)
    with one_error(f"the tokenizer {path!r}"):
        return AutoTokenizer.from_pretrained(folder, **extra)


def _check_folder(folder: Path, *, source: str) -> None:
    """Refuse a local folder with weights that transformers would add or ignore silently."""
    if (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(f"{source} holds an adapter ({ADAPTER_CONFIG}); merge it into its base model first")
    check_shards(folder)


def _check_weights(
    llm: PreTrainedModel, found: dict[str, Any], *, folder: Path, source: str, unread: list[str]
) -> None:
    """Refuse weights that transformers has initialised at random, left out or cast.

    It has already allowed for tied weights and for buffers that old versions of it stored.
    """
    parameters = dict(llm.named_parameters())
    is_quantised = getattr(llm.config, "quantization_config", None) is not None
    refuse_misfits(
        source,
        missing=found["missing_keys"],
        unknown=[*found["unexpected_keys"], *unread],
        misshaped=[
            f"{name} is {tuple(theirs)}, not {tuple(ours)}" for name, theirs, ours in found["mismatched_keys"]
        ],
        mistyped=[
            f"{name} is {code}"
            for name, code in ({} if is_quantised else odd_types(folder)).items()
            if any(own.endswith(name) for own in parameters)  # a file may leave out the base model's prefix
        ],
        not_finite=[f"{name} in {llm.dtype}" for name in not_finite(parameters)],
    )


def checkpoint_hash(path: str) -> str:
    """Hash weights, configuration and tokenizer of a language model that has been loaded: 16 hex digits.

    Every byte is read, at the speed of the disk. The folder's place does not count.

    Args:
        path: As for ``load_llm``.

    Raises:
        ModelError: There is no such model.
    """
    folder, extra = _source(path)
    root = Path(folder) if Path(folder).is_dir() else Path(snapshot_download(folder, local_files_only=True))
    patterns = extra.values() or _HASHED
    files = sorted({file for pattern in patterns for file in root.glob(pattern)})
    return hash_files(files)


def embedding_table(llm: nn.Module) -> Tensor:
    """Return the input embeddings of a language model, (vocabulary, width), detached."""
    weight: Any = llm.get_input_embeddings().weight  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    return weight.detach()


def attach(llm: PreTrainedModel, config: LLMConfig, *, generator: torch.Generator) -> nn.Module:
    """Make the language model trainable as configured: LoRA on a frozen model, or all of it.

    Raises:
        ModelError: No module carries one of the target names.
    """
    if config.train == "full":
        return llm
    from peft import LoraConfig

    llm.requires_grad_(requires_grad=False)
    lora = LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,  # pyright: ignore[reportArgumentType] (peft types it int, uses it as a number)
        lora_dropout=config.lora.dropout,
        target_modules=list(config.lora.target_modules),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in llm.modules()),  # GPT-2's linear layers
        task_type="CAUSAL_LM",
    )
    wrapped = _wrapped(llm, lora, source=f"LoRA on {abbreviated(config.lora.target_modules)}")
    _init_lora(wrapped, generator=generator)
    return wrapped


def load_adapter(llm: PreTrainedModel, directory: Path) -> "PeftModel":
    """Put a saved adapter (adapter_config.json, adapter_model.safetensors) on its frozen base.

    Raises:
        ModelError: Files are missing, or do not hold exactly the tensors of an adapter on this base.
    """
    from peft import PeftConfig, PeftType, get_peft_model_state_dict, set_peft_model_state_dict

    source = f"the adapter in {directory}"
    for name in (ADAPTER_CONFIG, ADAPTER):
        if not (directory / name).is_file():  # peft would take the folder for a hub id and go looking there
            raise ModelError(f"{source} cannot be loaded: it has no {name}")
    with one_error(source):
        config = PeftConfig.from_pretrained(str(directory))
    if config.peft_type != PeftType.LORA:
        kind = str(config.peft_type).removeprefix("PeftType.")
        raise ModelError(f"{source} is of type {kind}; only LORA is read")
    config.inference_mode, config.base_model_name_or_path = True, llm.name_or_path
    tensors = read_safetensors([directory / ADAPTER])
    wrapped = _wrapped(llm, config, source=source)
    expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    check_tensors({NativeName(name): own for name, own in expected.items()}, tensors, source=source)
    with one_error(source):
        set_peft_model_state_dict(wrapped, tensors)
    return wrapped.eval()


def saved_adapter_names(llm: "PeftModel") -> dict[str, str]:
    """Return for each tensor name in a saved adapter the name of the parameter it belongs to."""
    from peft import get_peft_model_state_dict

    own = dict(llm.named_parameters())
    names = {id(parameter): name for name, parameter in own.items()}
    saved = get_peft_model_state_dict(llm, state_dict=own, save_embedding_layers=False)
    return {name: names[id(parameter)] for name, parameter in saved.items()}


def _wrapped(llm: PreTrainedModel, config: "PeftConfig", *, source: str) -> "PeftModel":
    """Put a fresh adapter on a model; each of its target names must be some module's."""
    from peft import PeftModel, get_peft_model

    with one_error(source), quiet_transformers():
        wrapped = get_peft_model(llm, config)
    assert isinstance(wrapped, PeftModel)
    found: list[str] = wrapped.base_model.targeted_module_names  # pyright: ignore[reportAssignmentType]
    targets = getattr(config, "target_modules", None)
    absent = [
        name
        for name in (() if isinstance(targets, str) else targets or ())
        if not any(f".{module}".endswith(f".{name}") for module in found)
    ]
    if absent:
        raise ModelError(f"{source}: the language model has no module {abbreviated(sorted(absent))}")
    return wrapped


def is_adapted(llm: nn.Module) -> "TypeGuard[PeftModel]":
    """Whether there is an adapter on the model; peft is not imported to find out."""
    return hasattr(llm, "peft_config")


def merged(llm: nn.Module) -> nn.Module:
    """Add a float32 adapter to the weights it belongs to, for inference: a third of the matrix products.

    Weights of lower precision stay as they are beside their adapter: rounding would change the answers.

    Raises:
        ModelError: The merged model's logits are not those of model and adapter.
    """
    is_exact = all(weight.dtype == torch.float32 for weight in llm.parameters())
    if not is_adapted(llm) or not is_exact:
        return llm
    expected_SV = _probe(llm)
    _untie_targets(llm)
    whole = llm.merge_and_unload()
    difference = float((_probe(whole) - expected_SV).abs().max())
    largest = float(expected_SV.abs().max())
    if not difference <= _MERGE_TOLERANCE * largest:
        raise ModelError(
            f"the adapter cannot be merged into {llm.get_base_model().name_or_path!r}:"
            f" logits change by {difference:.2g} of {largest:.2g}"
        )
    return whole


def _probe(llm: Any) -> Tensor:
    """Return logits (S, V) at a few ids from all over the vocabulary."""
    ids_S = torch.linspace(0, len(embedding_table(llm)) - 1, 8, device=llm.device).long()
    with torch.no_grad():
        return llm.eval()(input_ids=ids_S[None], use_cache=False).logits[0].float()


def _untie_targets(llm: "PeftModel") -> None:
    """Copy weights that an adapter changes and another layer shares: often head and embedding table."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    base_config: Any = llm.get_base_model().config
    uses = Counter(id(weight) for module in llm.modules() for weight in module.parameters(recurse=False))
    for layer in [module for module in llm.modules() if isinstance(module, BaseTunerLayer)]:
        base = layer.get_base_layer()
        for name, weight in list(base.named_parameters(recurse=False)):
            if uses[id(weight)] > 1:
                setattr(base, name, nn.Parameter(weight.detach().clone(), requires_grad=False))
                base_config.tie_word_embeddings = False


def _init_lora(model: nn.Module, *, generator: torch.Generator) -> None:
    """Initialise as peft does, but from a given generator: one factor random, the other zero."""
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=generator)
        elif "lora_B" in name or "lora_embedding_A" in name:
            nn.init.zeros_(parameter)
        elif "lora_embedding_B" in name:
            nn.init.normal_(parameter, generator=generator)


def _source(path: str) -> tuple[str, dict[str, Any]]:
    if is_gguf(path):
        return gguf_arguments(path)
    _check_local(path)
    return path, {}


def _check_local(path: str) -> None:
    """Refuse a path that does not exist; hub ids are 'name' or 'org/name', anything else is a path."""
    looks_local = path.startswith((".", "/", "~")) or path.count("/") > 1
    if looks_local and not Path(path).is_dir():
        raise ModelError(f"no directory {path}")
