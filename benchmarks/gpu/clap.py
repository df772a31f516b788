"""CLAP's two towers in MS-CLAP 2023's shapes: texts/s and windows of audio/s by precision and batch.

The peers are the package's own way: texts padded to 77 tokens, in float32; windows one at a time.
"""

import contextlib
import tempfile
from pathlib import Path

import torch

from benchmarks.gpu.parts import Outcome, Table
from benchmarks.gpu.sizes import Size
from benchmarks.gpu.stand_in import clap_directory
from benchmarks.gpu_train import timed
from mats_ray.models.clap import load_clap
from mats_ray.models.clap.tower_clap import TowerCLAP

TOKENS, PADDED = 16, 77
"""Tokens of a caption, ending included; of the package's padded texts."""


def run(size: Size, device: str) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        clap = load_clap(clap_directory(Path(folder), size)).to(device)
    assert isinstance(clap, TowerCLAP)
    with torch.inference_mode():
        texts, padded = _texts(clap, size, device)
        windows, single = _windows(clap, size, device)
    best = max(row["texts_per_s"] for row in texts)
    exact = max(row["texts_per_s"] for row in texts if row["precision"] == "float32")
    figures = {
        "texts_per_s": best,
        "float32_texts_per_s": exact,
        "texts_over_padded": exact / padded,
        "windows_per_s": max(row["windows_per_s"] for row in windows),
        "windows_over_single": max(r["windows_per_s"] for r in windows if r["precision"] == "float32")
        / single,
    }
    tables = [
        Table.of(f"Texts of {TOKENS} tokens", texts),
        Table.of("Windows of 7 s, log-mel included", windows),
        Table.of(
            "The package's way, float32", [{"padded_texts_per_s": padded, "single_windows_per_s": single}]
        ),
    ]
    note = "embeddings are computed in float32 by every command; the other precisions are what it would give"
    return Outcome(figures, tables, [note])


@contextlib.contextmanager
def precision(name: str, device: str):
    """Run products in float32, in float32 rounded to TF32 (cards only), or in bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    try:
        with torch.autocast(device, torch.bfloat16, enabled=name == "bfloat16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _precisions(device: str) -> list[str]:
    return ["float32", *(["tf32"] if device == "cuda" else []), "bfloat16"]


def _texts(clap: TowerCLAP, size: Size, device: str) -> tuple[list[dict], float]:
    measured = []
    for name in _precisions(device):
        for batch in size.text_batches:
            ids = torch.randint(3, 500, (batch, TOKENS), device=device)
            mask = torch.ones_like(ids)
            with precision(name, device):
                seconds = timed(lambda i=ids, m=mask: clap.encode_tokens(i, m), device, repeats=size.repeats)
            measured.append({"precision": name, "batch": batch, "texts_per_s": batch / seconds})
    ids = torch.randint(3, 500, (size.text_batches[0], PADDED), device=device)
    ids[:, TOKENS:] = 0
    with precision("float32", device):
        seconds = timed(lambda: clap.encode_tokens(ids, (ids != 0).long()), device, repeats=size.repeats)
    return measured, len(ids) / seconds


def _windows(clap: TowerCLAP, size: Size, device: str) -> tuple[list[dict], float]:
    samples = clap.clips.window_samples
    is_longer = torch.zeros(1, dtype=torch.bool, device=device)

    def embed(waves: torch.Tensor) -> torch.Tensor:
        return clap.towers.embed_audio(clap.log_mel(waves)[:, None], is_longer.expand(len(waves)))

    measured = []
    for name in _precisions(device):
        for batch in size.audio_batches:
            waves = 0.1 * torch.randn(batch, samples, device=device)
            with precision(name, device):
                seconds = timed(lambda w=waves: embed(w), device, repeats=size.repeats)
            measured.append({"precision": name, "batch": batch, "windows_per_s": batch / seconds})
    with precision("float32", device):
        single = timed(
            lambda: embed(0.1 * torch.randn(1, samples, device=device)), device, repeats=size.repeats
        )
    return measured, 1 / single
