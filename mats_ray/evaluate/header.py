"""Header of an evaluation's log: which answers these are, and what made them."""

import importlib.metadata
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = ("mats-ray", "torch", "transformers", "ray", "pycocoevalcap", "scikit-learn")
"""What answers and scores depend on."""


def package_versions() -> dict[str, str]:
    """Return the installed versions of ``PACKAGES``."""
    found = dict[str, str]()
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_revision() -> str:
    """Return the revision of this package's checkout, ``-dirty`` if files are changed; empty outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Where the answers of a log come from."""

    benchmark: str
    version: int
    """Version of the benchmark."""
    model: Mapping[str, str]
    """``id``, ``clap``, ``santa`` (the bridge), ``directory``; ``id`` alone for answers given in a file."""
    decoding: str
    prompt: Mapping[str, str]
    """``mode``, ``prefix`` and an ``example``."""
    annotations: str
    audio: str
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    """Records of the annotation file that are no samples, by reason."""
    first_rejected: str = ""
    num_ambiguous: int = 0
    """Number of samples whose audio has a name that several files have."""
    versions: Mapping[str, str] = field(default_factory=package_versions)
    revision: str = field(default_factory=git_revision)
    created: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for answers to be of one evaluation."""
        prompt = {key: self.prompt[key] for key in ("mode", "prefix")}
        names = {"benchmark": self.benchmark, "version": self.version, "model": self.model["id"]}
        return names | {"decoding": self.decoding, "prompt": prompt}
