"""How well a system did on a test set, and how sure that is; two systems compared clip by clip.

The unit of chance is the clip: questions about one clip are right or wrong together.

Shapes: N clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

Measure = Literal["caption_all_sounds", "questions_right"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
"""Share of captions that name all sounds of the scene and no other; share of questions answered right."""
_NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error."""

    value: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """It covers the true mean in 95 of 100 cases."""
        return self.value - _NORMAL_95 * self.error, self.value + _NORMAL_95 * self.error

    @classmethod
    def of(cls, values_N: Sequence[float] | np.ndarray) -> "Estimate":
        """Estimate a mean from independent values; the error of a single one is 0 for want of another."""
        values_N = np.asarray(values_N, dtype=np.float64)
        count = len(values_N)
        return cls(float(values_N.mean()), float(values_N.std(ddof=1) / count**0.5) if count > 1 else 0.0)


@dataclass(frozen=True, slots=True)
class Score:
    """Result of a system on a test set, clip by clip."""

    captions: tuple[str, ...] = field(repr=False)
    """As generated."""
    caption_right_N: np.ndarray
    num_right_N: np.ndarray
    """Number of questions answered right."""
    num_questions_N: np.ndarray

    @property
    def caption_all_sounds(self) -> float:
        """Share of captions that name all sounds of the scene and no other."""
        return self.estimate("caption_all_sounds").value

    @property
    def questions_right(self) -> float:
        """Share of questions answered right."""
        return self.estimate("questions_right").value

    def estimate(self, measure: Measure) -> Estimate:
        """The share of all captions, or of all questions."""
        right_N, total_N = self._counts(measure)
        share = right_N.sum() / max(total_N.sum(), 1)
        error = Estimate.of((right_N - share * total_N) / max(total_N.mean(), 1e-9)).error
        return Estimate(float(share), error)

    def minus(self, other: "Score", measure: Measure) -> Estimate:
        """The difference to another system on the same clips, paired by clip."""
        (right_N, total_N), (other_N, _) = self._counts(measure), other._counts(measure)
        return Estimate.of((right_N - other_N) / max(total_N.mean(), 1e-9))

    def as_dict(self) -> dict[str, Any]:
        """As in ``metrics.json``."""
        shares = {measure: self.estimate(measure) for measure in MEASURES}
        return {
            **{measure: one.value for measure, one in shares.items()},
            **{f"{measure}_error": one.error for measure, one in shares.items()},
            "num_clips": len(self.captions),
            "num_questions": int(self.num_questions_N.sum()),
        }

    def _counts(self, measure: Measure) -> tuple[np.ndarray, np.ndarray]:
        if measure == "caption_all_sounds":
            return self.caption_right_N.astype(np.float64), np.ones(len(self.captions))
        return self.num_right_N.astype(np.float64), self.num_questions_N.astype(np.float64)
