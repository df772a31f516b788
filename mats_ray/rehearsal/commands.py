"""Commands of a rehearsal's stages: the shipped entries, and the device on which each answers."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mats_ray.config import RunConfig
from mats_ray.rehearsal.rows import Rows

QUESTION = "Which sounds can be heard?"


def flags_of(configs: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Return the flags of configuration files and ``key=value`` overrides."""
    flags = [flag for one in configs for flag in ("--config", one)]
    return flags + [flag for one in overrides for flag in ("--set", one)]


def job_command(name: str, *arguments: str) -> list[str]:
    """Return the command of ``jobs/NAME.py``."""
    return [sys.executable, f"jobs/{name}.py", *arguments]


def ask_command(config: RunConfig, rows: Rows) -> list[str]:
    """Return the command of one question, asked on the device on which the service answers."""
    device = "cuda" if config.serve.answerer.gpus else "cpu"
    command = [sys.executable, "-m", "mats_ray", "ask", str(rows.clip), QUESTION]
    return [*command, "--model", config.model_dir, "--device", device]


def evaluate_command(config: RunConfig, rows: Rows) -> list[str]:
    """Return the command of the evaluation, which answers as the caption job does."""
    files = ["--annotations", str(rows.evaluation), "--audio", str(rows.audio)]
    places = ["--model", config.model_dir, "--out", str(Path(config.output_dir) / "evaluation")]
    keys = ("decode_concurrency", "batch_size", "gpus_per_actor")
    sets = flags_of([], [f"caption.{key}={getattr(config.caption, key)}" for key in keys])
    return job_command("evaluate", "--benchmark", "clotho", *files, *places, "--rehearsal", *sets)
