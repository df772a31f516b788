"""Real annotation files through ``mats prepare`` and ``mats embed``: are the counts those of their authors?

    python benchmarks/bench_annotations.py [--annotations ../shared/data/annotations]

Every split is kept, so that each file's rows can be compared with what is published. Then everything is
embedded by a tiny CLAP, and the texts that went through it are compared with the distinct texts there are.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import torch
from transformers import ClapModel

from mats_ray.cli.on_ray import cluster
from mats_ray.config import RunConfig
from mats_ray.config.toy import ToyConfig
from mats_ray.data.embedding.on_ray import embed
from mats_ray.data.prepare.on_ray import prepare
from mats_ray.storage import open_input, parquet_files
from mats_ray.toy.clap import clap_config, feature_extractor
from mats_ray.toy.tokenizer import train_tokenizer

FILES = (
    ("audiocaps", "audiocaps_train.csv", "train", 49_838),
    ("audiocaps", "audiocaps_val.csv", "val", 2_475),
    ("audiocaps", "audiocaps_test.csv", "test", 4_875),
    ("clotho", "clotho_train.csv", "train", 5 * 3_839),
    ("clotho", "clotho_val.csv", "val", 5 * 1_045),
    ("clotho", "clotho_test.csv", "test", 5 * 1_045),
    ("musiccaps", "musiccaps-public.csv", "train", 5_521),
    ("musiccaps_aspects", "musiccaps-public.csv", "train", 5_521),
    ("wavcaps_soundbible", "wavcaps_sb_final.json", "train", 1_232),
    ("musicqa", "EvalMusicQA.json", "test", 5_040),
    ("vggsound", "vggsound_test_head.csv", "test", 5_000),
)
SPLITS = ["train", "val", "test"]


def sources_of(folder: Path, *, splits: list[str] | None = None) -> list[dict[str, object]]:
    """Return ``data.prepare.sources`` of every file; rows of its own split are kept, or of given splits."""
    return [
        {"source": source, "path": str(folder / name), "split": split, "splits": splits or [split]}
        for source, name, split, _ in FILES
    ]


def config_of(folder: Path, out: Path) -> RunConfig:
    """Configure a preparation of every file, all splits kept."""
    return RunConfig.model_validate(
        {
            "output_dir": str(out),
            "model": {"clap": {"ref": str(out / "clap"), "dim": 64}, "llm": {"path": "none"}},
            "data": {
                "prepare": {"sources": sources_of(folder, splits=SPLITS)},
                "embed": {"rows_per_partition": 20_000},
            },
        }
    )


def tiny_clap(folder: Path, texts: list[str]) -> None:
    """Write an untrained CLAP of the toy world's shape that spells these texts well."""
    tokenizer = train_tokenizer(texts[::10], vocab_size=4_000)
    torch.random.default_generator.manual_seed(0)
    for part in (ClapModel(clap_config(tokenizer, dim=64)), tokenizer, feature_extractor(ToyConfig())):
        part.save_pretrained(folder)


def distinct_texts(config: RunConfig) -> list[str]:
    """Collect the distinct texts of the triplets: some ten thousand, all in memory."""
    files = [open_input(one.path) for one in parquet_files(config.triplets_path)]
    tables = [pq.read_table(file, columns=["text"]) for file in files]
    return sorted({text for table in tables for text in table.column("text").to_pylist()})


def main() -> None:
    """Prepare, compare, embed, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--annotations", type=Path, default=Path("../shared/data/annotations"))
    folder = parser.parse_args().annotations.absolute()
    if not all((folder / name).is_file() for _, name, _, _ in FILES):
        print(f"skipped: the annotation files are not at {folder}")
        return
    with TemporaryDirectory() as scratch, cluster():
        config = config_of(folder, Path(scratch))
        report = prepare(config)
        print(report.table(), flush=True)
        for source, counts in report.sources.items():
            published = sum(count for name, _, _, count in FILES if name == source)
            verdict = "as published" if counts.records == counts.written == published else "DIFFERS"
            print(f"{source}: {counts.records} records, {published} published: {verdict}")
        texts = distinct_texts(config)
        tiny_clap(Path(scratch) / "clap", texts)
        summary = embed(config)
        print(
            f"{summary.num_rows} rows, {len(texts)} distinct texts, {summary.num_encoded} went through CLAP"
        )
        assert summary.num_encoded == len(texts)


if __name__ == "__main__":
    main()
