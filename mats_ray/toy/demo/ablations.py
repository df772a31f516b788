"""The runs the method is compared with: trained without noise, and trained on audio.

One after the other, with the method's own workers: side by side they would need a gigabyte more, and as long.
"""

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
from mats_ray.train.on_ray import train
from mats_ray.types import Triplet

NO_NOISE, SUPERVISED = "text_only", "audio_supervised"
BATCH_SIZE = 50


def train_ablations(config: RunConfig, clap: CLAP) -> dict[str, Path]:
    """Train both and return their model directories by name."""
    return {NO_NOISE: train_without_noise(config), SUPERVISED: train_on_audio(config, clap)}


def train_without_noise(config: RunConfig) -> Path:
    """Train on the same texts, with the same steps and seed, but noise variance 0."""
    return _train(config, NO_NOISE, embedded=config.embedded_path)


def train_on_audio(config: RunConfig, clap: CLAP) -> Path:
    """Train on audio embeddings in place of text embeddings, no noise: the ceiling of text-only training."""
    embedded = _folder(config, SUPERVISED) / "embedded"
    write_audio_embedded(config, clap, embedded)
    return _train(config, SUPERVISED, embedded=str(embedded))


def write_audio_embedded(config: RunConfig, clap: CLAP, target: Path) -> None:
    """Write the triplets of training scenes with embeddings of rendered audio, in the usual schema."""
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


def _train(config: RunConfig, name: str, *, embedded: str) -> Path:
    other = config.replace(
        name=name,
        output_dir=str(_folder(config, name)),
        model={
            "noise": {"variance": 0.0},
            "clap": {"ref": config.clap_ref},
            "llm": {"path": config.llm_path},
        },
        memory={"path": config.memory_path},
        data={"embedded": embedded, "triplets": config.triplets_path},
    )
    return Path(train(other).model)


def _folder(config: RunConfig, name: str) -> Path:
    return Path(config.output_dir).expanduser() / "systems" / name
