"""The runs the method is compared with: trained without noise, and trained on audio.

One worker each, side by side: both wait for the same imports and pipelines to start, and neither for the
other's gradients. The order of samples, their noise and the updates do not depend on the number of workers.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mats_ray.config import RunConfig
from mats_ray.models.clap import CLAP
from mats_ray.toy.supervised import write_audio_embedded
from mats_ray.train.on_ray import train

NO_NOISE, SUPERVISED = "text_only", "audio_supervised"


def train_others(config: RunConfig, clap: CLAP) -> dict[str, Path]:
    """Train both; returns their model directories by name."""
    with ThreadPoolExecutor() as threads:
        runs = {
            NO_NOISE: threads.submit(train_without_noise, config),
            SUPERVISED: threads.submit(train_on_audio, config, clap),
        }
        return {name: run.result() for name, run in runs.items()}


def train_without_noise(config: RunConfig) -> Path:
    """The same texts, steps and seed, noise variance 0."""
    return _train(config, NO_NOISE, embedded=config.embedded_path)


def train_on_audio(config: RunConfig, clap: CLAP) -> Path:
    """Audio embeddings in place of text embeddings, no noise: what text-only training tries to reach."""
    embedded = _folder(config, SUPERVISED) / "embedded"
    write_audio_embedded(config, clap, embedded)
    return _train(config, SUPERVISED, embedded=str(embedded))


def _train(config: RunConfig, name: str, *, embedded: str) -> Path:
    other = config.replace(
        name=name,
        output_dir=str(_folder(config, name)),
        model={
            "noise": {"variance": 0.0},
            "clap": {"ref": config.clap_ref},
            "llm": {"path": config.llm_path},
        },
        memory={"path": config.memory_path},
        data={"embedded": embedded, "triplets": config.triplets_path},
        scaling={"num_workers": 1},
    )
    return Path(train(other).model)


def _folder(config: RunConfig, name: str) -> Path:
    return Path(config.output_dir).expanduser() / "systems" / name
