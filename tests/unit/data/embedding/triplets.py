"""Triplets on disk and a CLAP that counts the texts it embeds."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mats_ray.config.data import DataConfig
from mats_ray.data.embedding.embed_plan import EmbedPlan, make_plan, triplet_files
from mats_ray.data.triplets import triplet_table
from mats_ray.tasks import Task
from mats_ray.types import CLAPIdentity, Triplet

IDENTITY = CLAPIdentity(family="transformers", checkpoint_hash="0123456789abcdef", dim=8)


class CountingCLAP:
    """Embeds a text as numbers that follow from it."""

    identity, dim = IDENTITY, IDENTITY.dim

    def __init__(self):
        self.seen = []

    def encode_text(self, texts, *, batch_size=64):
        self.seen += texts
        return torch.from_numpy(np.stack([embedding_of(text) for text in texts]))


def embedding_of(text):
    values = np.random.default_rng(list(text.encode())).normal(size=IDENTITY.dim)
    return (values / np.linalg.norm(values)).astype(np.float32)


def rows_of(count, *, texts, source="clotho", first=0):
    """Triplets that share a few texts."""
    return [
        Triplet(
            id=f"{source}/train/{n}",
            text=f"text {n % texts}",
            instruction="Describe.",
            answer=f"answer {n}",
            task=Task.CAPTION,
            source=source,
            split="train",
            license="MIT",
        )
        for n in range(first, first + count)
    ]


def write_triplets(folder, *files):
    folder.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(files):
        pq.write_table(triplet_table(rows), folder / f"{number}.parquet")


def plan_of(tmp_path, *files, **data) -> EmbedPlan:
    """Write files of triplets and plan their embedding."""
    write_triplets(tmp_path / "triplets", *files)
    return planned(tmp_path, **data)


def planned(tmp_path, **data) -> EmbedPlan:
    """Plan the embedding of triplets that are there."""
    settings = DataConfig.model_validate({"chunk_rows": 16, **data})
    triplets, out = f"{tmp_path}/triplets", tmp_path / "embedded"
    out.mkdir(exist_ok=True)
    return make_plan(settings, triplet_files(triplets), IDENTITY, triplets=triplets, out=str(out))


def table_of(folder) -> pa.Table:
    """All rows below a folder."""
    return pa.concat_tables([pq.ParquetFile(one).read() for one in sorted(folder.rglob("*.parquet"))])
