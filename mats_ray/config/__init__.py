"""Configuration: strict pydantic trees without torch; see ``load_config``."""

from mats_ray.config.run import RunConfig, load_config

__all__ = ["RunConfig", "load_config"]
