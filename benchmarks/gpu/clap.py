"""CLAP's two towers in MS-CLAP 2023's shapes: texts/s and windows of audio/s by precision and batch.

The peers are the package's own way: texts padded to 77 tokens, in float32; windows one at a time.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu.parts import Outcome
from benchmarks.gpu.sizes import Size
from benchmarks.gpu.stand_in import clap_directory
from benchmarks.gpu_train import timed
from mats_ray.models.clap import load_clap
from mats_ray.models.clap.tower_clap import TowerCLAP

TOKENS, PADDED = 16, 77
"""Tokens of a caption, ending included; of the package's padded texts."""


def run(size: Size, device: str, outcome: Outcome) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clap = load_clap(clap_directory(Path(folder), size)).to(device)
    assert isinstance(clap, TowerCLAP)
    figures = outcome.figures
    outcome.notes.append("figures are in float32, as every command embeds, where they name no precision")
    with torch.inference_mode():
        for row in texts(clap, size, device):
            _keep_best(figures, row, "texts_per_s")
            outcome.add(f"Texts of {TOKENS} tokens", row)
        padded = padded_texts(clap, size, device)
        figures["texts_over_padded"] = figures["texts_per_s"] / padded
        for row in windows(clap, size, device):
            _keep_best(figures, row, "windows_per_s")
            outcome.add("Windows of 7 s, log-mel included", row)
        single = single_windows(clap, size, device)
        figures["windows_over_single"] = figures["windows_per_s"] / single
    package = {"padded_texts_per_s": padded, "single_windows_per_s": single}
    outcome.add("The package's way, float32", package)


def _keep_best(figures: dict[str, float], row: dict, unit: str) -> None:
    """Keep the highest rate of each precision."""
    name = unit if row["precision"] == "float32" else f"{row['precision']}_{unit}"
    figures[name] = max(figures.get(name, 0.0), row[unit])


@contextlib.contextmanager
def precision(name: str, device: str):
    """Run products and convolutions in float32, in float32 rounded to TF32 (cards only), or in bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    convolutions = torch.backends.cudnn.flags(enabled=True, allow_tf32=name == "tf32")
    try:
        with convolutions, torch.autocast(device, torch.bfloat16, enabled=name == "bfloat16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _precisions(device: str) -> list[str]:
    return ["float32", *(["tf32"] if device == "cuda" else []), "bfloat16"]


def texts(clap: TowerCLAP, size: Size, device: str) -> Iterator[dict]:
    """Texts/s by precision and batch."""
    for name in _precisions(device):
        for batch in size.text_batches:
            ids = torch.randint(3, 500, (batch, TOKENS), device=device)
            mask = torch.ones_like(ids)
            with precision(name, device):
                seconds = timed(lambda i=ids, m=mask: clap.encode_tokens(i, m), device, repeats=size.repeats)
            yield {"precision": name, "batch": batch, "texts_per_s": batch / seconds}


def padded_texts(clap: TowerCLAP, size: Size, device: str) -> float:
    """Texts/s as the package pads them."""
    ids = torch.randint(3, 500, (size.text_batches[0], PADDED), device=device)
    ids[:, TOKENS:] = 0
    with precision("float32", device):
        return len(ids) / timed(
            lambda: clap.encode_tokens(ids, (ids != 0).long()), device, repeats=size.repeats
        )


def windows(clap: TowerCLAP, size: Size, device: str) -> Iterator[dict]:
    """Windows/s by precision and batch."""
    for name in _precisions(device):
        for batch in size.audio_batches:
            waves = 0.1 * torch.randn(batch, clap.clips.window_samples, device=device)
            with precision(name, device):
                seconds = timed(lambda w=waves: _embed(clap, w), device, repeats=size.repeats)
            yield {"precision": name, "batch": batch, "windows_per_s": batch / seconds}


def single_windows(clap: TowerCLAP, size: Size, device: str) -> float:
    """Windows/s one at a time."""
    wave = 0.1 * torch.randn(1, clap.clips.window_samples, device=device)
    with precision("float32", device):
        return 1 / timed(lambda: _embed(clap, wave), device, repeats=size.repeats)


def _embed(clap: TowerCLAP, waves: torch.Tensor) -> torch.Tensor:
    is_longer = torch.zeros(len(waves), dtype=torch.bool, device=waves.device)
    return clap.towers.embed_audio(clap.log_mel(waves)[:, None], is_longer)
