"""The paper's mixture: every batch comes from one source, each source as often as its weight says.

Batches are dealt from a deck that holds each source as many times as its weight and is shuffled again when it
is used up: over each deck the shares are exact, and which source batch b has is a pure function of (seed,
weights, b). Each source has an endless stream of samples of its own (``data.order``), from which its batches
are cut.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

import numpy as np

from mats_ray.data.order import RowGroup
from mats_ray.errors import ConfigError, DataError, abbreviated

_FOLDER = "of-"
_MAX_DENOMINATOR = 1000


class Mixture:
    """Which source each batch comes from, and which of the source's batches it is.

    Args:
        weights: Positive, by source.
        seed: Of the run.
    """

    def __init__(self, weights: Mapping[str, float], *, seed: int) -> None:
        parts = {name: Fraction(w).limit_denominator(_MAX_DENOMINATOR) for name, w in sorted(weights.items())}
        scale = math.lcm(*(part.denominator for part in parts.values()))
        copies = {name: int(part * scale) for name, part in parts.items()}
        divisor = math.gcd(*copies.values())
        self.copies = {name: count // divisor for name, count in copies.items()}
        self.deck = [name for name, count in self.copies.items() for _ in range(count)]
        self.seed = seed

    def batches(self, start: int, stop: int) -> Iterator[tuple[str, int]]:
        """Yield (source, index among the source's batches) of batches ``start`` to ``stop``."""
        number = start
        while number < stop:
            cycle, place = divmod(number, len(self.deck))
            order = np.random.default_rng((self.seed, cycle)).permutation(len(self.deck))
            dealt = [self.deck[int(card)] for card in order]
            seen = Counter(dealt[:place])
            for source in dealt[place : place + stop - number]:
                yield source, cycle * self.copies[source] + seen[source]
                seen[source] += 1
                number += 1


def source_folder(source: str) -> str:
    """Name the folder of one source's files, below the embedded triplets."""
    return f"{_FOLDER}{source}"


def check_layout(groups: Sequence[RowGroup], *, by: str, where: str) -> None:
    """Refuse files whose row groups mix sources where batches may not, and the other way round.

    Raises:
        DataError: Says how they were written, and what to do.
    """
    laid_out = {"source" if _source_of(group) else "rows" for group in groups}
    if laid_out != {by}:
        found = " and ".join(sorted(laid_out))
        raise DataError(
            f"{where} was embedded with data.mixture.by={found}, the configuration says {by}; "
            "run `mats embed` again"
        )


def groups_by_source(groups: Sequence[RowGroup], weights: Mapping[str, float]) -> dict[str, list[RowGroup]]:
    """Sort row groups by source; sources with a weight but no rows are left out.

    Raises:
        ConfigError: A source has rows and no weight.
    """
    found: dict[str, list[RowGroup]] = {}
    for group in groups:
        found.setdefault(_source_of(group), []).append(group)
    if strangers := sorted(found.keys() - weights.keys()):
        raise ConfigError(f"data.mixture.weights names no weight for {abbreviated(strangers)}")
    return found


def _source_of(group: RowGroup) -> str:
    folder = group.path.rpartition("/")[0].rpartition("/")[2]
    return folder.removeprefix(_FOLDER) if folder.startswith(_FOLDER) else ""
