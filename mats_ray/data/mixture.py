"""The paper's mixture: every batch comes from one source, each source in proportion to its weight.

Batches follow cycles. A cycle holds each source in proportion to its weight and is shuffled anew each time:
all cycles have the same shares, and the source of batch b is a pure function of (seed, weights, b). Each
source has an endless stream of samples of its own (``data.order``), from which its batches are cut.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

import numpy as np

from mats_ray.config.data import MixtureConfig
from mats_ray.data.audiotia import paper_weights
from mats_ray.data.order import RowGroup
from mats_ray.errors import ConfigError, DataError, abbreviated

MAX_CYCLE = 10_000
"""Longest cycle, in batches: shares are exact to one in ten thousand."""
_FOLDER = "of-"
_MAX_DENOMINATOR = 1000
_EXACT = 1e-9
"""Relative error of a weight written as a fraction."""


class Mixture:
    """Which source each batch comes from, and which of the source's batches it is.

    Args:
        weights: Positive and finite, by source.
        seed: Seed of the run.

    Raises:
        ConfigError: There are more sources than batches in the longest cycle.
    """

    def __init__(self, weights: Mapping[str, float], *, seed: int) -> None:
        if len(weights) > MAX_CYCLE:
            raise ConfigError(f"data.mixture mixes {len(weights)} sources; at most {MAX_CYCLE} are possible")
        copies = _exact_cycle(weights) or _bounded_cycle(weights)
        self.copies = dict(sorted(copies.items()))
        self.cycle = [name for name, count in self.copies.items() for _ in range(count)]
        self.seed = seed

    def batches(self, start: int, stop: int) -> Iterator[tuple[str, int]]:
        """Yield (source, index among the source's batches) of batches ``start`` to ``stop``."""
        number = start
        while number < stop:
            cycle, place = divmod(number, len(self.cycle))
            order = np.random.default_rng((self.seed, cycle)).permutation(len(self.cycle))
            shuffled = [self.cycle[int(index)] for index in order]
            seen = Counter(shuffled[:place])
            for source in shuffled[place : place + stop - number]:
                yield source, cycle * self.copies[source] + seen[source]
                seen[source] += 1
                number += 1


def _exact_cycle(weights: Mapping[str, float]) -> dict[str, int] | None:
    """Return the cycle of exact shares where weights are simple fractions and the cycle is not too long."""
    fractions = {
        name: Fraction(weight).limit_denominator(_MAX_DENOMINATOR) for name, weight in weights.items()
    }
    if not all(math.isclose(one, weights[name], rel_tol=_EXACT) for name, one in fractions.items()):
        return None
    scale = math.lcm(*(one.denominator for one in fractions.values()))
    copies = _reduced({name: int(one * scale) for name, one in fractions.items()})
    return copies if sum(copies.values()) <= MAX_CYCLE else None


def _bounded_cycle(weights: Mapping[str, float]) -> dict[str, int]:
    """Round the shares of the longest cycle by largest remainders, to at least one batch each."""
    largest, batches = max(weights.values()), MAX_CYCLE
    shares, copies = {name: weight / largest for name, weight in weights.items()}, dict[str, int]()
    scale = batches / math.fsum(shares.values())
    while small := [name for name, share in shares.items() if share * scale < 1]:
        copies |= dict.fromkeys(small, 1)
        batches -= len(small)
        shares = {name: share for name, share in shares.items() if name not in copies}
        scale = batches / math.fsum(shares.values()) if shares else 0.0
    floors = {name: int(share * scale) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (floors[name] - shares[name] * scale, name))
    rounded_up = set(by_remainder[: batches - sum(floors.values())])
    return _reduced(copies | {name: count + (name in rounded_up) for name, count in floors.items()})


def _reduced(copies: Mapping[str, int]) -> dict[str, int]:
    divisor = math.gcd(*copies.values())
    return {name: count // divisor for name, count in copies.items()}


def source_folder(source: str) -> str:
    """Name the folder of one source's files, below the embedded triplets."""
    return f"{_FOLDER}{source}"


def check_layout(groups: Sequence[RowGroup], *, by: str, where: str) -> None:
    """Refuse files whose row groups mix sources where batches may not, and the other way round.

    Raises:
        DataError: Names how they were written, and the remedy.
    """
    laid_out = {"source" if _source_of(group) else "rows" for group in groups}
    if laid_out != {by}:
        found = " and ".join(sorted(laid_out))
        raise DataError(
            f"{where} was embedded with data.mixture.by={found}, the configuration says {by}; "
            "run `mats embed` again"
        )


def mixture_of(
    config: MixtureConfig, groups: Sequence[RowGroup], *, seed: int, where: str
) -> tuple[dict[str, list[RowGroup]], Mixture]:
    """Sort row groups by source, and mix the sources that have rows.

    Args:
        config: With the weights, or without any: the paper's, of which the data may lack sources.
        groups: Row groups of files that are laid out by source.
        seed: Seed of the run.
        where: Path of the data, for messages.

    Raises:
        ConfigError: A source has rows and no weight, or a weight in the configuration and no rows.
    """
    found: dict[str, list[RowGroup]] = {}
    for group in groups:
        found.setdefault(_source_of(group), []).append(group)
    weights = config.weights or paper_weights()
    if without_weight := sorted(found.keys() - weights.keys()):
        table = "data.mixture.weights" if config.weights else "the paper's table of data.mixture.weights"
        raise ConfigError(
            f"{table} names no weight for {abbreviated(without_weight)}; weights are for every source or none"
        )
    if absent := sorted(config.weights.keys() - found.keys()):
        raise ConfigError(
            f"data.mixture.weights names {abbreviated(absent)}, of which {where} holds no rows to train on; "
            f"it holds {abbreviated(sorted(found))}"
        )
    return found, Mixture({name: weights[name] for name in found}, seed=seed)


def _source_of(group: RowGroup) -> str:
    folder = group.path.rpartition("/")[0].rpartition("/")[2]
    return folder.removeprefix(_FOLDER) if folder.startswith(_FOLDER) else ""
