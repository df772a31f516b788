"""Held-out triplets: a fixed draw of embedded rows, with the noise of the first epoch."""

import pyarrow as pa

from mats_ray.data.embedded import inspect, read_group
from mats_ray.data.stream import TEXT_COLUMNS, noised
from mats_ray.data.triplets import EMBEDDING, row_key
from mats_ray.errors import DataError
from mats_ray.types import CLAPIdentity


def read_held_out(
    path: str, *, identity: CLAPIdentity, num_rows: int, seed: int, variance: float
) -> pa.Table:
    """Draw rows by a hash of (seed, id): the same ones however the files are cut.

    Args:
        path: Embedded triplets.
        identity: CLAP of the training data.
        num_rows: Largest number of rows.
        seed: Seed of the run.
        variance: Variance of the noise, as in training; its draw never changes.

    Returns:
        ``id``, ``instruction``, ``answer``, ``embedding``.

    Raises:
        DataError: No rows, or of another CLAP.
    """
    data = inspect(path, expected=identity)
    kept: list[tuple[int, pa.Table]] = []
    for group in data.groups:
        table = read_group(group, [*TEXT_COLUMNS, EMBEDDING])
        keys = [row_key(f"{seed}:{row_id}") for row_id in table.column("id").to_pylist()]
        kept += [(key, table.slice(row, 1)) for row, key in enumerate(keys)]
        kept = sorted(kept, key=lambda item: item[0])[:num_rows]
    if not kept:
        raise DataError(f"the validation data at {path} holds no rows")
    rows = pa.concat_tables([row for _, row in kept]).combine_chunks()
    return noised(rows, seed=seed, variance=variance)
