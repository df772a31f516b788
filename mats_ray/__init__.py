"""MATS, the audio language model trained on text alone, as software on Ray.

Importing this package loads neither torch nor ray, downloads nothing and reads no environment; each public
name brings what it needs when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mats_ray.version import __version__

if TYPE_CHECKING:
    from mats_ray.config import RunConfig, load_config
    from mats_ray.data.audio import read_audio
    from mats_ray.infer.pipeline import MATSPipeline
    from mats_ray.models.clap import load_clap
    from mats_ray.models.noise import inject_noise
    from mats_ray.models.santa import SantaMemory
    from mats_ray.tasks import Task
    from mats_ray.types import Answer, AudioClip, Request

_EXPORTS = {
    "Answer": "mats_ray.types",
    "AudioClip": "mats_ray.types",
    "MATSPipeline": "mats_ray.infer.pipeline",
    "Request": "mats_ray.types",
    "RunConfig": "mats_ray.config",
    "SantaMemory": "mats_ray.models.santa",
    "Task": "mats_ray.tasks",
    "inject_noise": "mats_ray.models.noise",
    "load_clap": "mats_ray.models.clap",
    "load_config": "mats_ray.config",
    "read_audio": "mats_ray.data.audio",
}

__all__ = [
    "Answer",
    "AudioClip",
    "MATSPipeline",
    "Request",
    "RunConfig",
    "SantaMemory",
    "Task",
    "__version__",
    "inject_noise",
    "load_clap",
    "load_config",
    "read_audio",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
