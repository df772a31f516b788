"""A finished run becomes a model directory: trained parts, settings, bridge, model card."""

import json
import shutil
import tempfile
from pathlib import Path

from mats_ray.config import RunConfig
from mats_ray.config.bridge import STATE_FILES
from mats_ray.config.model import ModelConfig
from mats_ray.config.run import join
from mats_ray.errors import TrainingError
from mats_ray.models.directory import BRIDGE_NUMBERS, CONFIG, ModelSettings
from mats_ray.models.stand_in import stand_ins_of
from mats_ray.storage import exists, read_bytes, upload
from mats_ray.train.tracking import Record
from mats_ray.types import CLAPIdentity
from mats_ray.version import __version__

MODEL_SUBFOLDER = "model"
"""Folder in the last checkpoint: the trained parts in the form of a model directory."""


def export(config: RunConfig, checkpoint: Path, metrics: Record) -> None:
    """Write the model directory, ``config.model_dir``, from the last checkpoint.

    Raises:
        TrainingError: See ``check_model_dir``.
    """
    check_model_dir(config)  # again: another run may have finished meanwhile
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        shutil.copytree(checkpoint / MODEL_SUBFOLDER, model)
        if config.bridge != "none":
            (model / STATE_FILES[config.bridge]).write_bytes(read_bytes(config.memory_path))
        _write_bridge(model / CONFIG, config)
        (model / "README.md").write_text(model_card(config, metrics), "utf-8")
        upload(model, config.model_dir)


def _write_bridge(file: Path, config: RunConfig) -> None:
    """Put the bridge of now in the place of the checkpoint's: a finished run may get another one."""
    tree = json.loads(file.read_bytes())
    if "model" in tree:
        tree["model"]["bridge"] = config.model.bridge
        tree |= {key: getattr(config, key).model_dump(mode="json") for key in BRIDGE_NUMBERS}
        file.write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n", "utf-8")


def check_model_dir(config: RunConfig) -> None:
    """Refuse to replace a model directory that is not this run's.

    Raises:
        TrainingError: It is another run's; the run it belongs to is named.
    """
    file = join(config.model_dir, CONFIG)
    if not exists(file):
        return
    try:
        owner = json.loads(read_bytes(file))["name"]
    except (ValueError, KeyError, TypeError):
        owner = None
    if owner != config.name:
        whose = "a model of no run" if owner is None else f"the model of the run {owner!r}"
        raise TrainingError(
            f"{config.model_dir} holds {whose}, which the run {config.name!r} would replace; move it away or "
            f"give this run a folder of its own, e.g. {config.own_folder_flags}"
        )


def model_settings(config: RunConfig, identity: CLAPIdentity) -> ModelSettings:
    """Collect the settings that the model directory keeps."""
    return ModelSettings(
        name=config.name,
        version=__version__,
        model=resolved_model(config),
        santa=config.santa,
        projection=config.projection,
        spectral=config.spectral,
        generation=config.generation,
        clap=identity,
    )


def resolved_model(config: RunConfig) -> ModelConfig:
    """Return section ``model`` with the references in use."""
    clap = config.model.clap.model_copy(update={"ref": config.clap_ref})
    llm = config.model.llm.model_copy(update={"path": config.llm_path})
    return config.model.model_copy(update={"clap": clap, "llm": llm})


def model_card(config: RunConfig, metrics: Record) -> str:
    """Write the README.md of a model directory: parts, training, use."""
    model, train, mapper = config.model, config.train, config.model.mapper
    trained = "LoRA" if model.llm.train == "lora" else "all weights"
    numbers = "\n".join(f"| {key} | {value:.6g} |" for key, value in sorted(metrics.items()))
    return f"""{_stand_in_line(config)}---
library_name: mats_ray
tags: [audio-captioning, audio-question-answering, text-only-training]
---
# {config.name}

An audio language model after MATS (Wang et al., ICML 2025, arXiv 2502.13433), trained on text alone.

| part | value |
|---|---|
| CLAP | `{config.clap_ref}`, {model.clap.dim}-d, frozen |
| language model | `{config.llm_path}`, trained: {trained} |
| mapper | {mapper.num_layers} layers, width {mapper.hidden_dim}, prefix {mapper.prefix_length} |
| noise variance | {model.noise.variance} |
| bridge | {config.bridge} |
| steps x batch | {train.num_steps} x {train.global_batch_size} |
| seed | {config.seed} |
| mats_ray | {__version__} |

Last training record:

| metric | value |
|---|---|
{numbers}

```python
from mats_ray import MATSPipeline, read_audio

pipe = MATSPipeline.from_pretrained("path/to/this/directory")
print(pipe.caption(read_audio("clip.wav")).text)
```

The base models are referred to, not contained: their licences apply.
"""


def _stand_in_line(config: RunConfig) -> str:
    """Return the first line of the card of a rehearsal, above the header: it is for no hub."""
    parts = stand_ins_of(resolved_model(config))
    if not parts:
        return ""
    return f"**Not a model: a rehearsal on stand-ins ({', '.join(parts)}), its answers mean nothing.**\n\n"
