"""Libraries of the extra ``evaluate``: imported when a measure needs one, with a clear error without it."""

import importlib
import importlib.util
from typing import Any

from mats_ray.errors import ConfigError


def require(module: str) -> Any:
    """Import a module of the extra.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = error.name or module
        raise ConfigError(
            f"{package} is not installed, which scores need: pip install 'mats-ray[evaluate]'"
        ) from error


def is_installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None
