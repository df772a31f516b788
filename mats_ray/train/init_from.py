"""Start from an earlier model: ``train.init_from`` is compared with the run, hashed, and loaded.

Trained tensors come from the model directory in float32, whatever precision they are stored or trained in.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mats_ray.config import RunConfig
from mats_ray.config.model import ModelConfig
from mats_ray.errors import ModelError, TrainingError
from mats_ray.models.chat_template import choose_format
from mats_ray.models.directory import MAPPER, ModelInfo, read_info
from mats_ray.models.llm import (
    ADAPTER,
    checkpoint_hash,
    is_adapted,
    load_llm,
    load_llm_config,
    load_tokenizer,
    saved_adapter_names,
)
from mats_ray.models.mats import MATS
from mats_ray.models.weights import NativeName, check_tensors, hash_files, read_safetensors
from mats_ray.storage import download, is_remote
from mats_ray.train.engine import OPTIMIZER_KEYS, EngineState
from mats_ray.train.run_state import PROMPT_FORMAT, differences
from mats_ray.types import CLAPIdentity

_NOT_ARCHITECTURE = {
    "_name_or_path",
    "architectures",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
"""Keys of a language model's configuration that may differ."""


def check_init_from(config: RunConfig, clap: CLAPIdentity) -> str | None:
    """Compare the model of ``train.init_from`` with the run, and return its hash; None: there is none.

    The language model is compared where it can be read here; workers compare it in any case.

    Raises:
        ModelError: It is no model directory, or it cannot be read.
        TrainingError: Names every setting that differs, with its value there and here.
    """
    if config.train.init_from is None:
        return None
    if _place(config.train.init_from) == _place(config.model_dir):
        raise TrainingError(
            f"train.init_from={config.train.init_from} is where this run's own model goes; give the run a "
            f"folder of its own, e.g. {config.own_folder_flags}"
        )
    with _opened(config.train.init_from) as info:
        there = {**_architecture(info.model), "model.clap": str(info.clap)}
        here = {**_architecture(config.model), "model.clap": str(clap)}
        _refuse(config, differences(there, here))
        if Path(config.llm_path).expanduser().is_dir():
            _check_llm(config, info)
        return _hash(info)


def initial_hash(config: RunConfig) -> str | None:
    """Hash the trained tensors of ``train.init_from``; None: there is none.

    Raises:
        ModelError: It is no model directory.
    """
    if config.train.init_from is None:
        return None
    with _opened(config.train.init_from) as info:
        return _hash(info)


def initial_state(config: RunConfig, model: MATS) -> EngineState | None:
    """Read the tensors of ``train.init_from``, beside a new optimizer's state; None: there is none.

    Args:
        config: Names the model directory.
        model: The model to be trained, before an engine casts or partitions it.

    Raises:
        ModelError: A tensor is missing, unknown, of another shape or not finite.
        TrainingError: It was trained on another language model.
    """
    if config.train.init_from is None:
        return None
    with _opened(config.train.init_from) as info:
        _check_llm(config, info)
        stored = _stored_tensors(info, model)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    expected = {NativeName(name): parameter for name, parameter in trained.items()}
    check_tensors(expected, stored, source=f"train.init_from={config.train.init_from}")
    weights = {name: stored[name].detach().float() for name in trained}
    moments = {f"{key}/{name}": torch.zeros_like(t) for name, t in weights.items() for key in OPTIMIZER_KEYS}
    return EngineState(weights, moments, 0)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[ModelInfo]:
    """Read a model directory's settings; one on S3 is copied for as long as it is open."""
    with tempfile.TemporaryDirectory(prefix="mats-init-") as scratch:
        folder = Path(path).expanduser()
        if is_remote(path):
            folder = Path(scratch)
            download(path, folder)
        try:
            info = read_info(folder)
        except ModelError as error:
            raise ModelError(f"train.init_from: {str(error).replace(scratch, path.rstrip('/'))}") from None
        yield info


def _place(path: str) -> str:
    return path.rstrip("/") if is_remote(path) else str(Path(path).expanduser().resolve())


def _hash(info: ModelInfo) -> str:
    """Hash the trained tensors; what else is in the directory has no part in training."""
    adapter = [info.directory / ADAPTER] if info.model.llm.train == "lora" else []
    files = [info.directory / MAPPER, *adapter, *sorted((info.directory / "llm").glob("*.safetensors"))]
    if absent := [file.name for file in files if not file.is_file()]:
        raise ModelError(f"train.init_from: the model {info.name!r} has no {absent[0]}")
    return hash_files(files)


def _architecture(model: ModelConfig) -> dict[str, Any]:
    """List the settings that give trained tensors their shapes and their meaning."""
    mapper = model.mapper.model_dump(mode="json")
    if model.mapper.type == "mlp":
        mapper = {key: mapper[key] for key in ("type", "hidden_dim", "prefix_length")}
    settings = {f"model.mapper.{key}": value for key, value in mapper.items()}
    settings |= {"model.clap.dim": model.clap.dim, "model.llm.train": model.llm.train}
    if model.llm.train == "lora":
        lora = model.llm.lora.model_dump(mode="json", exclude={"dropout"})
        lora["target_modules"] = sorted(lora["target_modules"])
        settings |= {f"model.llm.lora.{key}": value for key, value in lora.items()}
    return settings


def _check_llm(config: RunConfig, info: ModelInfo) -> None:
    """Compare the language models, tokenizers and prompts of the earlier model and of the run."""
    assert info.model.llm.path is not None
    if info.model.llm.train == "full":
        there, here = (_llm_settings(path) for path in (info.model.llm.path, config.llm_path))
        _refuse(config, differences(there, here))
    elif _place(info.model.llm.path) != _place(config.llm_path):
        _refuse(config, _other_base(info.model.llm.path, config.llm_path))
    theirs, ours = (load_tokenizer(path) for path in (str(info.directory), config.llm_path))
    there, here = _words(theirs), _words(ours)
    if there != here:
        first = differences(there, here).split(", ")[0]
        _refuse(config, f"the tokenizer, {len(there)} entries there, {len(here)} here, e.g. {first}")
    prompt = choose_format(ours, config.model.llm.prompt_format)
    _refuse(config, differences({PROMPT_FORMAT: str(info.prompt)}, {PROMPT_FORMAT: str(prompt)}))


def _other_base(there: str, here: str) -> str:
    try:
        hashes = {"model.llm": checkpoint_hash(there)}
    except ModelError as error:
        return f"model.llm.path was {there}, is {here}, and the old one cannot be compared: {error}"
    return differences(hashes, {"model.llm": checkpoint_hash(here)})


def _llm_settings(path: str) -> dict[str, Any]:
    tree = load_llm_config(path).to_dict()
    return {f"language model's {key}": value for key, value in tree.items() if key not in _NOT_ARCHITECTURE}


def _words(tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return {**tokenizer.get_vocab(), **special}


def _refuse(config: RunConfig, changed: str) -> None:
    if changed:
        raise TrainingError(
            f"train.init_from={config.train.init_from} does not fit this run: {changed}; use its settings, "
            "or start without it"
        )


def _stored_tensors(info: ModelInfo, model: MATS) -> Mapping[str, Tensor]:
    """Read the trained tensors under the names the model's parameters have."""
    connector = read_safetensors([info.directory / MAPPER])
    named = {f"connector.{name}": tensor for name, tensor in connector.items()}
    if is_adapted(model.llm):
        own = saved_adapter_names(model.llm)
        adapter = read_safetensors([info.directory / ADAPTER])
        return named | {f"llm.{own.get(name, name)}": tensor for name, tensor in adapter.items()}
    llm = load_llm(str(info.directory / "llm"))
    return named | {f"llm.{name}": parameter for name, parameter in llm.named_parameters()}
