"""The model directory: Hugging Face habits, base models by reference, only trained parts inside, no pickles.

``config.json``, ``mapper.safetensors``, ``adapter_config.json`` + ``adapter_model.safetensors`` (a plain peft
adapter) or ``llm/`` (a small model trained whole), tokenizer files, ``generation_config.json``, the state of
the bridge (Santa's is ``santa_memory.safetensors``) and ``README.md``. References to local base models are
stored relative to the directory, so a folder with everything in it can be moved. The texts of the prompt it
was trained with are part of ``config.json``; a directory without them was trained with Vicuna's.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mats_ray.config.base import explain
from mats_ray.config.bridge import STATE_FILES, TEXT_MEMORY, BridgeName, ProjectionConfig, SpectralConfig
from mats_ray.config.generation import GenerationConfig
from mats_ray.config.model import ModelConfig
from mats_ray.config.santa import SantaConfig, bridge_in_use
from mats_ray.errors import ModelError
from mats_ray.models.prompt_format import PromptFormat, read_prompt_format
from mats_ray.models.stand_in import stand_ins_of
from mats_ray.models.startup import quiet_transformers
from mats_ray.types import CLAPIdentity

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mats_ray.models.mats import MATS
    from mats_ray.models.prompt import PromptTokenizer

FORMAT = "mats_ray/1"
CONFIG, MAPPER, GENERATION, SANTA = (
    "config.json",
    "mapper.safetensors",
    "generation_config.json",
    TEXT_MEMORY,
)
BRIDGE_NUMBERS = ("santa", "projection", "spectral")
"""Sections of the bridges; directories of earlier versions have the first one only."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Content of ``config.json`` and ``generation_config.json`` of a model directory."""

    name: str
    version: str
    """Version of the mats_ray that wrote it."""
    model: ModelConfig
    """``clap.ref`` and ``llm.path`` are resolved: they are valid in any working directory."""
    santa: SantaConfig
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    spectral: SpectralConfig = field(default_factory=SpectralConfig)
    generation: GenerationConfig
    clap: CLAPIdentity
    """CLAP of the embeddings it was trained on; a loader refuses another."""

    @property
    def bridge(self) -> BridgeName:
        """The bridge in use; none where it is Santa, and Santa is off."""
        return bridge_in_use(self.model.bridge, self.santa)

    def bridge_tree(self) -> dict[str, Any]:
        """Return the bridges' numbers as ``config.json`` has them; the bridge's name is in ``model``."""
        return {key: getattr(self, key).model_dump(mode="json") for key in BRIDGE_NUMBERS}


@dataclass(frozen=True, kw_only=True)
class ModelInfo(ModelSettings):
    """Settings read from a directory."""

    directory: Path
    model_id: str
    """Name and content hash of the trained parts; written into every row of a batch job."""
    prompt: PromptFormat
    """Texts around prefix, instruction and answer that it was trained with."""
    stand_ins: tuple[str, ...] = ()
    """Parts ("clap", "llm") that were stand-ins when it was trained, or are: its answers mean nothing."""

    @property
    def space(self) -> str:
        """Name of the space of its audio embeddings; those of two spaces cannot be compared."""
        scale = "as upstream" if self.santa.compat == "upstream" else "normalised"
        return f"{self.clap}, long audio by {self.model.clap.long_audio}, {scale}"


def save_model(
    directory: Path,
    model: "MATS",
    prompts: "PromptTokenizer",
    settings: ModelSettings,
    *,
    home: str | None = None,
    trained: "Mapping[str, Tensor] | None" = None,
) -> None:
    """Write the trained parts in float32; the caller adds Santa memory and model card.

    Args:
        directory: Created if absent.
        model: Its connector and adapter (or whole language model) are stored.
        prompts: Its tokenizer and the texts of its prompt are stored.
        settings: Stored as JSON, references to local base models relative to the model's home.
        home: Final place of the directory, if not ``directory``.
        trained: Trained parameters by name, where the model itself holds them rounded or partitioned.
    """
    directory.mkdir(parents=True, exist_ok=True)
    connector = dict(model.named_parameters()) if trained is None else trained
    _save_tensors(_below("connector.", connector), directory / MAPPER)
    config, home = settings.model, home or str(directory)
    tree = config.model_dump(mode="json")
    tree["clap"]["ref"] = _stored(tree["clap"]["ref"], home)
    tree["clap"]["tokenizer"] = _stored(tree["clap"]["tokenizer"], home)
    tree["llm"]["path"] = "llm" if config.llm.train == "full" else _stored(tree["llm"]["path"], home)
    _save_llm(directory, model.llm, base=tree["llm"]["path"], trained=trained)
    prompts.tokenizer.save_pretrained(directory)
    _write_json(directory / CONFIG, _facts(settings, tree, prompts.format))
    _write_json(directory / GENERATION, settings.generation.model_dump(mode="json"))


def _facts(settings: ModelSettings, model: dict[str, Any], prompt: PromptFormat) -> dict[str, Any]:
    """Return ``config.json``: the settings, their section ``model`` with references as they are stored."""
    facts = {
        "format": FORMAT,
        "name": settings.name,
        "mats_ray_version": settings.version,
        "model": model,
        "prompt": prompt.model_dump(mode="json"),
        **settings.bridge_tree(),
        "clap_identity": asdict(settings.clap),
    }
    stand_ins = stand_ins_of(settings.model)
    return facts | {"stand_ins": stand_ins} if stand_ins else facts


def read_info(directory: str | Path) -> ModelInfo:
    """Read the settings of a model directory without loading weights.

    Raises:
        ModelError: It is no model directory, or its settings are not valid.
    """
    directory = Path(directory).expanduser()
    tree, generation = _read_json(directory, CONFIG), _read_json(directory, GENERATION)
    if tree.get("format") != FORMAT:
        raise ModelError(
            f"{directory / CONFIG} is of format {tree.get('format')!r}, this version reads {FORMAT!r}"
        )
    try:
        model = ModelConfig.model_validate(tree["model"])
        resolved = _resolved(model, directory)
        info = ModelInfo(
            directory=directory,
            name=tree["name"],
            version=tree["mats_ray_version"],
            model=resolved,
            santa=SantaConfig.model_validate(tree["santa"]),
            projection=ProjectionConfig.model_validate(tree.get("projection", {})),
            spectral=SpectralConfig.model_validate(tree.get("spectral", {})),
            generation=GenerationConfig.model_validate(generation),
            clap=CLAPIdentity(**tree["clap_identity"]),
            model_id=f"{tree['name']}@{_content_hash(directory)}",
            stand_ins=tuple(sorted({*tree.get("stand_ins", ()), *stand_ins_of(resolved)})),
            prompt=read_prompt_format(tree.get("prompt"), source=str(directory / CONFIG)),
        )
    except ValidationError as error:
        raise ModelError(f"{directory}: {explain(ModelConfig, error)}") from error
    except (KeyError, TypeError) as error:
        raise ModelError(f"{directory / CONFIG} is incomplete: {error}") from error
    return info


def derive_model(
    info: ModelInfo, directory: Path, *, settings: ModelSettings, state: Path | None
) -> ModelInfo:
    """Write a model directory that links to the trained parts of another and has its own bridge.

    Args:
        info: Of the other.
        directory: Created if absent; files of an earlier one there are replaced.
        settings: Of the new model; only its name, its bridge and their numbers may be others.
        state: File of its bridge's state; None: it has none.

    Raises:
        ModelError: The other's files cannot be read.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tree = _read_json(info.directory, CONFIG) | {"name": settings.name} | settings.bridge_tree()
    tree["model"] = settings.model.model_dump(mode="json")  # references to base models are absolute
    own = {CONFIG, *STATE_FILES.values()}
    links = {file.name: file for file in info.directory.iterdir() if file.name not in own}
    links |= {STATE_FILES[settings.bridge]: state} if state is not None else {}
    for file in own:
        (directory / file).unlink(missing_ok=True)
    for file, target in links.items():
        (directory / file).unlink(missing_ok=True)
        (directory / file).symlink_to(target.resolve())
    if info.model.llm.train == "lora":
        from mats_ray.models.llm import ADAPTER_CONFIG

        adapter = _read_json(info.directory, ADAPTER_CONFIG)
        (directory / ADAPTER_CONFIG).unlink()
        _write_json(directory / ADAPTER_CONFIG, adapter | {"base_model_name_or_path": info.model.llm.path})
    _write_json(directory / CONFIG, tree)
    return read_info(directory)


def load_model(info: ModelInfo) -> "tuple[MATS, PromptTokenizer]":
    """Load connector, language model and tokenizer, ready for inference.

    Raises:
        ModelError: A part is missing, cut off, or does not fit the settings.
    """
    from mats_ray.models.build import build_connector
    from mats_ray.models.llm import embedding_table, load_adapter, load_llm
    from mats_ray.models.mats import MATS
    from mats_ray.models.prompt import load_prompts
    from mats_ray.models.weights import load_weights, read_safetensors

    config = info.model
    assert config.llm.path is not None
    llm: nn.Module = load_llm(config.llm.path, dtype=config.llm.dtype)
    prompts = load_prompts(str(info.directory), info.prompt, llm=llm)
    llm_dim = embedding_table(llm).shape[1]
    connector = build_connector(config.mapper, clap_dim=config.clap.dim, llm_dim=llm_dim)
    mapper = info.directory / MAPPER
    load_weights(connector, read_safetensors([mapper]), source=str(mapper))
    if config.llm.train == "lora":
        _check_base(info)
        llm = load_adapter(llm, info.directory)  # pyright: ignore[reportArgumentType]
    model = MATS(connector, llm, before_ids=prompts.before(), eos_id=prompts.eos_id)
    return model.eval().requires_grad_(requires_grad=False), prompts


def _check_base(info: ModelInfo) -> None:
    """Compare the adapter's base model with the one in the settings."""
    from mats_ray.models.llm import ADAPTER_CONFIG

    base = _read_json(info.directory, ADAPTER_CONFIG).get("base_model_name_or_path")
    if base is not None and _resolve(base, info.directory) != info.model.llm.path:
        raise ModelError(
            f"{info.directory}: {ADAPTER_CONFIG} belongs to the language model {base!r},"
            f" {CONFIG} names {info.model.llm.path!r}"
        )


def _below(prefix: str, tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return the parameters of one part of the model in float32, named without the prefix."""
    return {
        name.removeprefix(prefix): tensor.detach().float().cpu().contiguous()
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _save_tensors(tensors: "dict[str, Tensor]", file: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, file)


def _save_llm(
    directory: Path, llm: "nn.Module", *, base: str, trained: "Mapping[str, Tensor] | None"
) -> None:
    from mats_ray.models.llm import is_adapted

    tensors = None if trained is None else _below("llm.", trained)
    if is_adapted(llm):
        for adapter in llm.peft_config.values():
            adapter.base_model_name_or_path = base
        # by default peft would look up the base model, even on a hub, to compare vocabularies
        llm.save_pretrained(str(directory), save_embedding_layers=False, state_dict=tensors)
        (directory / "README.md").unlink(missing_ok=True)  # peft's own card template; ours follows
        return
    with quiet_transformers():
        llm.save_pretrained(directory / "llm", state_dict=tensors)  # pyright: ignore[reportCallIssue]


def _stored(ref: str | None, home: str) -> str | None:
    """Return a local base model relative to the model directory; hub ids, and all refs on S3, as is."""
    if ref is None:
        return None
    path = Path(ref).expanduser()
    if "://" in home or not path.exists():
        return ref
    return os.path.relpath(path.resolve(), Path(home).expanduser().resolve())


def _resolve(ref: str | None, directory: Path) -> str | None:
    if ref is None:
        return None
    local = directory.resolve() / ref
    return str(local.resolve()) if local.exists() else ref


def _resolved(model: ModelConfig, directory: Path) -> ModelConfig:
    clap = model.clap.model_copy(
        update={
            "ref": _resolve(model.clap.ref, directory),
            "tokenizer": _resolve(model.clap.tokenizer, directory),
        }
    )
    llm = model.llm.model_copy(update={"path": _resolve(model.llm.path, directory)})
    return model.model_copy(update={"clap": clap, "llm": llm})


def _content_hash(directory: Path) -> str:
    digest = hashlib.sha256()
    llm = sorted(f"llm/{file.name}" for file in (directory / "llm").glob("*.safetensors"))
    parts = [MAPPER, "adapter_model.safetensors", *llm, *STATE_FILES.values(), CONFIG]
    for part in parts:
        if (directory / part).is_file():
            digest.update(part.encode())
            digest.update((directory / part).read_bytes())
    return digest.hexdigest()[:12]


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n", "utf-8")


def _read_json(directory: Path, name: str) -> dict[str, Any]:
    if not directory.is_dir():
        raise ModelError(f"no model directory at {directory}")
    try:
        tree = json.loads((directory / name).read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{directory} is not a model directory: it has no {name}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{directory / name} is not JSON (cut off?): {error}") from error
    if not isinstance(tree, dict):
        raise ModelError(f"{directory / name} must hold an object")
    return tree
