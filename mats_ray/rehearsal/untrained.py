"""A model directory of a configuration before its first training step: what loading and answering need."""

from multiprocessing import get_context

from mats_ray.config import RunConfig
from mats_ray.errors import RehearsalError

MEMORY_TEXTS = 256
"""Texts of its Santa memory."""


def write_untrained(config: RunConfig, texts: list[str]) -> None:
    """Write ``config.model_dir`` with freshly initialised parts, in a process whose memory is free again.

    Args:
        config: As rehearsed.
        texts: Texts for the Santa memory; the first ``MEMORY_TEXTS`` are used.

    Raises:
        RehearsalError: The process ended, for want of memory say.
    """
    process = get_context("spawn").Process(target=_write, args=(config, texts[:MEMORY_TEXTS]))
    process.start()
    process.join()
    if process.exitcode:
        raise RehearsalError(
            f"the untrained model could not be built: its process ended with {process.exitcode}"
        )


def _write(config: RunConfig, texts: list[str]) -> None:
    from pathlib import Path

    from mats_ray.config.model import AUTO, NOISE_VARIANCE
    from mats_ray.models.build import build_clap, build_mats
    from mats_ray.models.directory import SANTA, save_model
    from mats_ray.models.santa import SantaMemory
    from mats_ray.train.export import model_card, model_settings

    if config.model.noise.variance == AUTO:  # nothing is trained, and no caption embedded to estimate it by
        config = config.replace(model={"noise": {"variance": NOISE_VARIANCE}})
    clap = build_clap(config.clap)
    memory = SantaMemory.build(
        clap.encode_text(texts),
        num_clusters=min(config.memory.num_clusters, len(texts)),
        noise_variance=NOISE_VARIANCE,
        seed=config.seed,
    )
    model, prompts = build_mats(config.model, llm_path=config.llm_path, seed=config.seed)
    folder = Path(config.model_dir)
    save_model(folder, model, prompts, model_settings(config, clap.identity))
    memory.save(folder / SANTA)
    (folder / "README.md").write_text(model_card(config, {}), "utf-8")
