"""Clips and files to CLAP embeddings, whatever their length, for the answering stage of a batch job.

Shapes: W windows, C CLAP dim.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mats_ray.caption.clips import Item, LongFile
from mats_ray.caption.decode import Opener
from mats_ray.data.audio import AudioBlocks
from mats_ray.data.windows import Cut, Window, cut_blocks
from mats_ray.errors import AudioError
from mats_ray.infer.pipeline import AudioEncoder
from mats_ray.types import AudioClip

WINDOWS_AT_A_TIME = 16
"""Of a file that is pooled: what is held of it, whatever its length."""


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """An embedding, and how long a sound it is of."""

    seconds: float
    embedding_C: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Hearing:
    """Hears a batch; what cannot be heard spoils nothing else.

    Attributes:
        encoder: CLAP.
        opener: Opens the files that were too long to be sent.
        pool: Windows to take the mean over, each weighted by the seconds it covers; None: CLAP's own.
    """

    encoder: AudioEncoder
    opener: Opener
    pool: Cut | None = None

    def hear(self, items: Sequence[Item]) -> list[Heard | AudioError]:
        """Embed clips and files, in order; errors pass through."""
        if self.pool is not None:
            return [self._hear_alone(item) for item in items]
        return self._hear_together(items)

    def _hear_together(self, items: Sequence[Item]) -> list[Heard | AudioError]:
        clips = [item for item in items if isinstance(item, AudioClip)]
        try:
            embeddings = iter(self.encoder.encode(clips))
        except AudioError:
            return [self._hear_alone(item) for item in items]
        return [
            Heard(item.seconds, next(embeddings)) if isinstance(item, AudioClip) else self._hear_alone(item)
            for item in items
        ]

    def _hear_alone(self, item: Item) -> Heard | AudioError:
        try:
            match item:
                case AudioError():
                    return item
                case LongFile():
                    with self.opener.open(item.path, item.size, item.etag) as audio:
                        return self._hear_blocks(audio)
                case AudioClip() if self.pool is None:
                    return Heard(item.seconds, self.encoder.encode([item])[0])
                case AudioClip():
                    blocks = iter([np.asarray(item.samples)])
                    return self._hear_blocks(
                        AudioBlocks(sample_rate=item.sample_rate, name=item.name, blocks=blocks)
                    )
        except AudioError as error:
            return error

    def _hear_blocks(self, audio: AudioBlocks) -> Heard:
        if self.pool is None and self.encoder.long_audio != "windows":  # one window, of the whole
            clip = AudioClip(samples=np.concatenate(list(audio)), sample_rate=audio.sample_rate)
            return Heard(clip.seconds, self.encoder.encode([clip])[0])
        seconds = self.encoder.clap.window_seconds
        cut = self.pool or Cut(seconds=seconds, hop=seconds)
        total_C, covered_s, end_s = np.zeros(self.encoder.clap.dim), 0.0, 0.0
        windows = cut_blocks(audio, audio.sample_rate, cut)
        while some := list(itertools.islice(windows, WINDOWS_AT_A_TIME)):
            # a rest that makes no window of its own has no weight, as in CLAP's own mean
            seconds_W = np.array([min(one.seconds, cut.seconds) for one in some])
            total_C += seconds_W @ self._encoded(some, audio)
            covered_s, end_s = covered_s + seconds_W.sum(), some[-1].end_s
        mean_C = total_C / (np.linalg.norm(total_C) if self.encoder.normalize else covered_s)
        return Heard(end_s, mean_C.astype(np.float32))

    def _encoded(self, windows: Sequence[Window], audio: AudioBlocks) -> np.ndarray:
        rate = audio.sample_rate
        clips = [AudioClip(samples=one.samples, sample_rate=rate, name=audio.name) for one in windows]
        return self.encoder.encode(clips).astype(np.float64)
