"""Texts per second of our encoder against the plain way, on real captions with a RoBERTa-base-sized CLAP.

    python benchmarks/bench_text.py --captions ../shared/data/annotations/audiocaps_train.csv [--texts 1024]

The plain way is laion_clap's: every text padded to 77 tokens, batches as they come. The floor is the same
tower on the same tokens without any padding: texts of exactly one length together. All three run in turn on
the same texts, with random weights (the speed does not depend on them); the embeddings must agree.
"""

import argparse
import csv
import json
import time
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import ClapModel

from mats_ray.config.toy import ToyConfig
from mats_ray.models.clap import load_clap
from mats_ray.toy.clap import clap_config, feature_extractor
from mats_ray.toy.tokenizer import train_tokenizer

ROBERTA_BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
PADDED = 77


def build(folder: Path, captions: list[str]) -> object:
    """Write and load a CLAP whose text tower has RoBERTa-base's shape, with a tokenizer of these captions."""
    tokenizer = train_tokenizer(captions, vocab_size=8_000)
    config = clap_config(tokenizer, dim=512)
    for name, value in ROBERTA_BASE.items():
        setattr(config.text_config, name, value)
    torch.random.default_generator.manual_seed(0)
    for part in (ClapModel(config), tokenizer, feature_extractor(ToyConfig())):
        part.save_pretrained(folder)
    return load_clap(folder)


def plain(clap, texts: list[str], batch_size: int) -> torch.Tensor:
    """Encode the way laion_clap does."""
    found = []
    for start in range(0, len(texts), batch_size):
        ids_BT, mask_BT = clap.tokens.pad([*clap.tokens(texts[start : start + batch_size]), [1] * PADDED])
        mask_BT[-1] = 0  # the row that gave the width
        found.append(clap.encode_tokens(ids_BT[:-1], mask_BT[:-1]))
    return torch.cat(found)


def floor(clap, texts: list[str], batch_size: int) -> torch.Tensor:
    """Encode without a single padding token."""
    rows = clap.tokens(texts)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    found = torch.empty(len(rows), clap.dim)
    for _, group in groupby(order, key=lambda index: len(rows[index])):
        chosen = list(group)
        for start in range(0, len(chosen), batch_size):
            batch = chosen[start : start + batch_size]
            found[batch] = clap.encode_tokens(*clap.tokens.pad([rows[index] for index in batch]))
    return found


def ours(clap, texts: list[str], batch_size: int) -> torch.Tensor:
    """Encode as ``mats embed`` does."""
    return clap.encode_text(texts, batch_size=batch_size)


def main() -> None:
    """Measure and print one line per way, then the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--captions", type=Path, default=Path("../shared/data/annotations/audiocaps_train.csv")
    )
    parser.add_argument(
        "--texts", type=int, default=1024, help="captions drawn, evenly over the file; 0: all"
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if not args.captions.is_file():
        print(f"skipped: no captions at {args.captions}")
        return
    torch.set_num_threads(args.threads)
    with args.captions.open(newline="", encoding="utf-8") as stream:
        captions = [row["caption"] for row in csv.DictReader(stream)]
    texts = captions[:: max(1, len(captions) // args.texts)][: args.texts] if args.texts else captions
    with TemporaryDirectory() as folder:
        clap = build(Path(folder), captions)
        tokens = sum(len(row) for row in clap.tokens(texts))  # loads the tokenizer while its folder is there
    print(
        f"{len(texts)} of {len(captions)} captions, "
        f"{tokens / len(texts):.1f} tokens each, {args.threads} threads"
    )
    rates, outputs = {}, {}
    for way in (plain, ours, floor):
        way(clap, texts[: args.batch_size], args.batch_size)  # warm
        started = time.monotonic()
        outputs[way.__name__] = way(clap, texts, args.batch_size)
        rates[way.__name__] = len(texts) / (time.monotonic() - started)
        print(f"{way.__name__:<6} {rates[way.__name__]:8.1f} texts/s")
    apart = (outputs["ours"] - outputs["plain"]).abs().max().item()
    print(
        f"ours / plain {rates['ours'] / rates['plain']:.2f} "
        f"x (goal 3), embeddings within {apart:.1e} (goal 1e-5)"
    )
    print(f"share of the floor {rates['ours'] / rates['floor']:.2f}")
    print(json.dumps({"texts": len(texts), "tokens": tokens, "apart": apart, **rates}))


if __name__ == "__main__":
    main()
