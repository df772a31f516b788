"""The service's settings from a run configuration, for ``mats serve``."""

from collections.abc import Sequence

from mats_ray.config.base import StrictConfig, assemble
from mats_ray.config.run import load_config
from mats_ray.config.serve import ServeConfig


class _ServeSection(StrictConfig):
    """A run configuration of which only ``serve`` is wanted, so nothing else need be there."""

    serve: ServeConfig = ServeConfig()


def load_serve_config(
    configs: Sequence[str], overrides: Sequence[str] = (), *, model: str | None = None
) -> ServeConfig:
    """Read the ``serve`` section of configuration files and ``serve.a=b`` overrides.

    Args:
        configs: YAML files of a run; none is fine.
        overrides: As for every command, ``serve.max_audio_seconds=60``.
        model: Model directory. Otherwise ``serve.model``, or else where the run writes its model.

    Raises:
        ConfigError: One line naming the key, its value and what is allowed.
    """
    if configs:
        run = load_config(configs, overrides)
        config = run.serve
        model = model or (None if "model" in config.model_fields_set else run.model_dir)
    else:
        config = assemble(_ServeSection, {}, overrides).serve
    return config if model is None else config.model_copy(update={"model": model})
