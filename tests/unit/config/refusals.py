"""The error message of a value that a section refuses."""

import pytest
from pydantic import BaseModel

from mats_ray.config.base import override, validate
from mats_ray.errors import ConfigError


def refusal(kind: type[BaseModel], change: str) -> str:
    """Return the error message for ``change``, an ``a.b=c`` override, without its place."""
    with pytest.raises(ConfigError) as caught:
        validate(kind, override(change), where="here")
    return str(caught.value).removeprefix("here: ")
