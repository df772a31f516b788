"""The noise variance that a CLAP asks for, by text alone: how far captions of one clip lie apart.

Noise in training stands for what text does not know of audio. By CapDec's idea (Nukrai et al., 2022) texts
that tell of one clip differ by as much: for two of them E||t_i - t_j||^2 = 2 C variance. The paper's 0.015 is
for MS-CLAP 2023; another encoder has another gap.

Shapes: T texts of one clip, C CLAP dim.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import pyarrow.parquet as pq
import torch
from torch import Tensor

from mats_ray.config import RunConfig
from mats_ray.config.model import NOISE_VARIANCE
from mats_ray.data.sources.registry import clip_of
from mats_ray.data.triplets import row_key
from mats_ray.errors import DataError
from mats_ray.models.build import build_clap
from mats_ray.storage import open_input, parquet_files, reading_parquet
from mats_ray.tasks import Task

MAX_CLIPS, MAX_TEXTS = 1_000, 10
"""Largest number of clips of a source, drawn with the seed, and of captions of a clip."""
_CANDIDATES = 4 * MAX_CLIPS
"""Clips that are kept while reading: some turn out to have one caption only."""
_CAPTIONS = (Task.CAPTION, Task.MUSIC_CAPTION)
_HELD_OUT = "test"
_DIGITS = 4
"""Significant digits of an estimate: far below its error, and the same on any device."""

Clips = Mapping[str, Sequence[Sequence[str]]]
"""Captions of each clip, by source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceEstimate:
    """The mean over clips of the mean over a clip's pairs of captions."""

    value: float
    """Variance per component."""
    error: float | None
    """Standard error over clips; None: there is one."""
    num_clips: int
    num_pairs: int


def captions_of_clips(path: str, *, seed: int) -> dict[str, list[list[str]]]:
    """Read clips with two different captions or more from triplets, embedded or not; not of test splits.

    Sources whose ids do not tell the clip have none (``sources.registry.clip_of``). Which clips are drawn
    follows from a hash of (seed, clip); memory is bounded by their number.

    Args:
        path: File, folder or s3:// prefix of Parquet.
        seed: Seed of the run.

    Returns:
        At most ``MAX_CLIPS`` clips of each source, each with at most ``MAX_TEXTS`` texts.

    Raises:
        DataError: No files, a file cut off; or no clip has two captions.
    """
    found: dict[str, dict[str, set[str]]] = {}
    for source, clip, text in _captions(path):
        clips = found.setdefault(source, {})
        clips.setdefault(clip, set()).add(text)
        if len(clips) > 2 * _CANDIDATES:
            kept = sorted(clips, key=lambda one: row_key(f"{seed}:{one}"))[:_CANDIDATES]
            found[source] = {one: clips[one] for one in kept}
    drawn: dict[str, list[list[str]]] = {}
    for source, clips in sorted(found.items()):
        several = sorted(
            (clip for clip, texts in clips.items() if len(texts) > 1),
            key=lambda one: row_key(f"{seed}:{one}"),
        )
        if several:
            drawn[source] = [_texts(clips[clip], seed) for clip in several[:MAX_CLIPS]]
    if not drawn:
        raise DataError(
            f"the triplets at {path} have no clip with two captions to estimate a noise variance by; sources "
            "with several are Clotho, MACS, Song Describer, and validation captions of AudioCaps"
        )
    return drawn


def _texts(texts: set[str], seed: int) -> list[str]:
    return sorted(sorted(texts), key=lambda text: row_key(f"{seed}:{text}"))[:MAX_TEXTS]


def _captions(path: str) -> Iterator[tuple[str, str, str]]:
    """Yield (source, clip, text) of captions."""
    for file in parquet_files(path):
        with reading_parquet(file.path), open_input(file.path) as stream:
            columns = ["id", "text", "task", "source", "split"]
            for batch in pq.ParquetFile(stream).iter_batches(columns=columns):
                for row_id, text, task, source, split in zip(
                    *(batch.column(name).to_pylist() for name in columns), strict=True
                ):
                    if task in _CAPTIONS and split != _HELD_OUT and (clip := clip_of(row_id, source)):
                        yield source, clip, text


def estimate(clips: Clips, encode: Callable[[list[str]], Tensor]) -> dict[str, VarianceEstimate]:
    """Estimate the variance of each source, and of all clips together (``all``), where there are several.

    Args:
        clips: See ``captions_of_clips``.
        encode: CLAP's text side: unit vectors (N, C).
    """
    spreads = {source: _spreads(texts, encode) for source, texts in clips.items()}
    if len(spreads) > 1:
        spreads["all"] = [one for of_source in spreads.values() for one in of_source]
    return {source: _estimate(of_source) for source, of_source in spreads.items()}


def _spreads(
    clips: Sequence[Sequence[str]], encode: Callable[[list[str]], Tensor]
) -> list[tuple[float, int]]:
    """Return variance and number of pairs of each clip."""
    embeddings = encode([text for texts in clips for text in texts]).double().cpu()
    return [
        (_variance(rows_TC), len(rows_TC) * (len(rows_TC) - 1) // 2)
        for rows_TC in embeddings.split([len(texts) for texts in clips])
    ]


def _variance(rows_TC: Tensor) -> float:
    """Mean of ||t_i - t_j||^2 / (2 C) over pairs: the sample variance of the rows, per component."""
    return float(rows_TC.var(dim=0, correction=1).mean())


def _estimate(spreads: Sequence[tuple[float, int]]) -> VarianceEstimate:
    values = [value for value, _ in spreads]
    return VarianceEstimate(
        value=_rounded(fmean(values)),
        error=stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
        num_clips=len(values),
        num_pairs=sum(pairs for _, pairs in spreads),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def estimate_of(config: RunConfig, path: str) -> dict[str, VarianceEstimate]:
    """Estimate by the captions at a path, with the run's CLAP; see ``estimate``.

    Raises:
        DataError: See ``captions_of_clips``.
        ModelError: The CLAP cannot be loaded.
    """
    clips = captions_of_clips(path, seed=config.seed)  # first: without them there is no need for a CLAP
    clap = build_clap(config.clap)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return estimate(clips, clap.to(device).encode_text)


def training_variance(config: RunConfig) -> VarianceEstimate:
    """Estimate by all captions of the embedded triplets: what a variance of ``auto`` is.

    Raises:
        DataError: There are none, or no clip has two captions.
        ModelError: The CLAP cannot be loaded.
    """
    return list(estimate_of(config, config.embedded_path).values())[-1]


def table(estimates: Mapping[str, VarianceEstimate]) -> str:
    """Lay estimates out as text, beside the paper's number."""
    width = max(len("source"), *map(len, estimates))
    lines = [f"{'source'.ljust(width)}  {'clips':>6}  {'pairs':>7}  noise variance"]
    for source, one in estimates.items():
        error = "" if one.error is None else f" ± {one.error:.2g}"
        lines.append(f"{source.ljust(width)}  {one.num_clips:>6}  {one.num_pairs:>7}  {one.value:.4g}{error}")
    return "\n".join(
        [*lines, f"{'the paper'.ljust(width)}  {'':>6}  {'':>7}  {NOISE_VARIANCE:g} (MS-CLAP 2023)"]
    )
