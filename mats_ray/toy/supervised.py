"""Training data of the ceiling: the same triplets as for text, with *audio* embeddings of real clips."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mats_ray.config import RunConfig
from mats_ray.data.triplets import embedded_schema, embedding_array, triplet_table
from mats_ray.models.clap import CLAP
from mats_ray.progress import Progress
from mats_ray.toy.scenes import render_clip
from mats_ray.toy.world import SUPERVISED_STREAM, split_of, training_triplets
from mats_ray.types import Triplet

BATCH_SIZE = 50


def write_audio_embedded(config: RunConfig, clap: CLAP, target: Path) -> None:
    """Render training scenes, embed the audio, write embedded triplets in the usual schema."""
    assert config.toy is not None
    toy = config.toy
    count = toy.num_audio_train_clips
    clips = split_of(config).clips(SUPERVISED_STREAM, count=count, seed=config.seed)
    rows: list[Triplet] = []
    embedding_of_row: list[int] = []
    for index, clip in enumerate(clips):
        new = training_triplets(clip, f"audio/{index}")
        rows += new
        embedding_of_row += [index] * len(new)
    embeddings = []
    with Progress("audio for the ceiling", total=count, unit="clip") as progress:
        for start in range(0, count, BATCH_SIZE):
            waveforms = [
                render_clip(c, toy.clip_seconds, toy.sample_rate) for c in clips[start : start + BATCH_SIZE]
            ]
            embeddings.append(clap.encode_audio(waveforms, toy.sample_rate).cpu())
            progress.advance(len(waveforms))
    matrix_NC = torch.cat(embeddings).numpy()[embedding_of_row]
    columns = [*triplet_table(rows).columns, embedding_array(matrix_NC)]
    target.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_arrays(columns, schema=embedded_schema(clap.identity))
    pq.write_table(table, target / "audio.parquet", row_group_size=config.data.chunk_rows)
