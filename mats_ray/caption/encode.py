"""Decoded clips to CLAP embeddings, inside the answer stage of a batch job.

Shapes: C CLAP dim.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mats_ray.caption.pooling import WindowSum
from mats_ray.caption.rows import RowError, Source
from mats_ray.errors import AudioError
from mats_ray.types import AudioClip

if TYPE_CHECKING:
    from mats_ray.infer.encoder import AudioEncoder

AddWindows = Callable[[WindowSum], WindowSum | None]
"""``WindowPool.add``, of this process or another one."""


Result = np.ndarray | RowError
"""Embedding (C,) float32, or the error of a clip that has none."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EncodedClip:
    """A file or window with rows of its own."""

    source: Source
    prompts: Sequence[Mapping[str, str]]
    """Those it is to be answered for, values of ``rows.PROMPT``."""
    result: Result


@dataclass(frozen=True, kw_only=True)
class ClipEncoder:
    """Encodes batches; a clip that cannot be encoded changes nothing for the others.

    Attributes:
        encoder: CLAP.
        add_windows: Adds windows of files of which only a part is in the batch.
    """

    encoder: "AudioEncoder"
    add_windows: AddWindows

    def encode(self, batch: pa.Table) -> Iterator[EncodedClip]:
        """Encode a table of ``CLIP_SCHEMA``, in order; pooled windows come out as one clip, if complete."""
        clips = batch.drop_columns(["samples"]).to_pylist()
        pairs = zip(clips, self._results(clips, batch.column("samples")), strict=True)
        for (_, is_pooled), group in itertools.groupby(pairs, key=_path_and_pooling):
            if not is_pooled:
                yield from (_encoded(clip, result) for clip, result in group)
            elif (whole := self._pooled(list(group))) is not None:
                yield whole

    def _results(self, clips: Sequence[dict[str, Any]], samples: Iterable[Any]) -> list[Result]:
        """Return the embedding or the error of each clip."""
        pairs = zip(clips, samples, strict=True)
        embeddings = iter(self._embed([_audio(*pair) for pair in pairs if pair[0]["error_code"] is None]))
        return [
            next(embeddings) if clip["error_code"] is None else RowError(clip["error_code"], clip["error"])
            for clip in clips
        ]

    def _embed(self, clips: Sequence[AudioClip]) -> list[Result]:
        """Embed clips together; if one of them cannot be, each alone."""
        try:
            return list(self.encoder.encode(clips))
        except AudioError as error:
            if len(clips) == 1:
                return [RowError.of(error)]
        return [result for clip in clips for result in self._embed([clip])]

    def _pooled(self, windows: Sequence[tuple[dict[str, Any], Result]]) -> EncodedClip | None:
        """Encode a file from all its windows; None while some are missing."""
        added = self._sum(windows)
        whole = added if added.is_whole else self.add_windows(added)
        if whole is None:
            return None
        clip, _ = windows[0]
        start_s = None if whole.end_s is None else 0.0
        return EncodedClip(
            source=Source(path=clip["path"], etag=clip["etag"], start_s=start_s, end_s=whole.end_s),
            prompts=clip["prompts"],
            result=whole.error or whole.mean(normalize=self.encoder.normalize),
        )

    def _sum(self, windows: Sequence[tuple[dict[str, Any], Result]]) -> WindowSum:
        first, last = windows[0][0], windows[-1][0]
        total_C, covered_s, error = np.zeros(self.encoder.clap.dim), 0.0, None
        for clip, result in windows:
            if isinstance(result, RowError):
                error = error or result
            else:
                total_C += clip["pool_weight_s"] * result.astype(np.float64)
                covered_s += clip["pool_weight_s"]
        return WindowSum(
            path=first["path"],
            first=first["segment"],
            stop=last["segment"] + 1,
            is_last=last["is_last"],
            total_C=total_C,
            covered_s=covered_s,
            end_s=last["end_s"],
            error=error,
        )


def _path_and_pooling(pair: tuple[dict[str, Any], Any]) -> tuple[str, bool]:
    clip, _ = pair
    return clip["path"], clip["pool_weight_s"] is not None


def _audio(clip: dict[str, Any], samples: Any) -> AudioClip:
    """Read a clip's samples, without copying them."""
    samples_T = np.frombuffer(samples.as_buffer(), np.float32)
    return AudioClip(samples=samples_T, sample_rate=clip["sample_rate"], name=clip["path"])


def _encoded(clip: dict[str, Any], result: Result) -> EncodedClip:
    source = Source(
        path=clip["path"],
        etag=clip["etag"],
        start_s=clip["start_s"],
        end_s=clip["end_s"],
        segment=clip["segment"],
        is_last=clip["is_last"],
    )
    return EncodedClip(source=source, prompts=clip["prompts"], result=result)
