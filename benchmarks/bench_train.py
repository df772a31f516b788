"""Training against the plain way: transformers' Trainer with peft, random batches, logits at all positions.

    python benchmarks/bench_train.py            # ours, the plain way, and ours with one idea less at a time
    python benchmarks/bench_train.py --annotations ../shared/data/annotations   # real captions and questions
    python benchmarks/bench_train.py --part ray # what Ray Train and DeepSpeed cost; waits for data

Rows are the toy grammar's, all about as long, or real ones. Both sides train the same random LLaMA with LoRA
and mapper on the same rows in the same global batches, each in a process of its own, single-threaded, and
print non-padding text tokens per second of CPU time (of wall time for ``--part ray``, which has processes
that help), peak memory and losses.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

VARIANTS = {
    "ours": "ours",
    "plain": "Trainer + peft",
    "padded": "ours, padded rows",
    "no-lengths": "ours, random micro-batches",
    "all-logits": "ours, padded rows, logits at all positions",
    "all-gradients": "ours, gradients for frozen weights",
    "no-cache": "ours, every row tokenised each time",
}
DRAWN_FROM = ("audiocaps_train.csv", "clotho_train.csv", "musiccaps-public.csv", "EvalMusicQA.json")
WARM_STEPS = 2
LR, BETAS, DECAY = 1e-3, (0.9, 0.98), 0.05


def build(folder: Path, args: argparse.Namespace):
    """Write a random LLaMA, its tokenizer and embedded triplets of the toy grammar."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from mats_ray.config import load_config
    from mats_ray.data.triplets import embedded_schema, embedding_array
    from mats_ray.tasks import prompt_halves
    from mats_ray.toy.tokenizer import train_tokenizer
    from mats_ray.types import CLAPIdentity

    config = load_config("configs/toy.yaml").replace(
        name="bench",
        output_dir=str(folder),
        model={
            "clap": {"ref": "none"},
            "llm": {"path": str(folder / "llm"), "lora": {"rank": 8, "target_modules": ["q_proj", "v_proj"]}},
            "mapper": {"prefix_length": 20, "content_length": 20},
        },
        data={"embedded": str(folder / "embedded"), "chunk_rows": 1024},
        santa={"enabled": False},
        train={
            "num_steps": args.steps,
            "global_batch_size": args.batch,
            "micro_batch_size": args.micro_batch,
            "log_every": 1,
            "optim": {"lr": LR, "betas": list(BETAS), "weight_decay": DECAY},
            "schedule": {"type": "constant", "warmup_steps": 0},
            "engine": {"type": "torch"},
        },
        scaling={"num_workers": 1},
        toy={"num_texts": args.texts},
    )
    table = grammar_rows(config) if args.annotations is None else annotated_rows(config, args)
    rows = table.to_pylist()
    parts = (
        part for row in rows for part in (row["text"], *prompt_halves(row["instruction"]), row["answer"])
    )
    tokenizer = train_tokenizer(parts, vocab_size=1500 if args.annotations is None else args.vocab)
    torch.manual_seed(0)
    llama = LlamaConfig(
        vocab_size=args.vocab,
        hidden_size=args.width,
        intermediate_size=args.width * 43 // 16,
        num_hidden_layers=args.layers,
        num_attention_heads=args.width // 32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(llama).save_pretrained(folder / "llm")
    tokenizer.save_pretrained(folder / "llm")
    dim = config.model.clap.dim
    matrix = np.random.default_rng(0).standard_normal((len(rows), dim))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    clap = CLAPIdentity(family="transformers", checkpoint_hash="0" * 16, dim=dim)
    order = np.random.default_rng(1).permutation(len(rows))
    table = pa.Table.from_arrays([*table.columns, embedding_array(matrix)], schema=embedded_schema(clap))
    (folder / "embedded").mkdir()
    pq.write_table(table.take(pa.array(order)), folder / "embedded/part-00000.parquet", row_group_size=1024)
    return config


def grammar_rows(config):
    """The toy's triplets."""
    from mats_ray.data.triplets import triplet_table
    from mats_ray.toy.world import split_of, text_triplets

    return triplet_table(text_triplets(config, split_of(config)))


def annotated_rows(config, args: argparse.Namespace):
    """As many rows, drawn from all that real annotation files give, through ``mats prepare``'s own reader."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from bench_annotations import sources_of

    from mats_ray.data.prepare.conversion import convert_file
    from mats_ray.data.prepare.input_files import find_input_files

    sources = [one for one in sources_of(args.annotations.absolute()) if Path(one["path"]).name in DRAWN_FROM]
    config = config.replace(data={"prepare": {"sources": sources}})
    Path(config.triplets_path).mkdir()
    for input_file in find_input_files(config.data.prepare):
        for _ in convert_file(input_file, config.data.prepare, seed=config.seed, out=config.triplets_path):
            pass
    table = pq.read_table(config.triplets_path)
    return table.take(pa.array(np.random.default_rng(2).permutation(len(table))[: args.texts]))


def row_tables(config):
    """The stream one worker sees, without Ray."""
    from mats_ray.data.embedded import inspect
    from mats_ray.data.stream import SpanReader, StreamPlace, spans_of

    place = StreamPlace(0, config.train.num_steps * config.train.global_batch_size, 0, 1)
    reader = SpanReader(config, inspect(config.embedded_path), place)
    size = config.train.micro_batch_size
    for span in spans_of(config, place):
        table = reader.read(span)
        yield from (table.slice(first, size) for first in range(0, len(table), size))


def run_ours(config, variant: str) -> list[dict]:
    """Our loop's own parts; returns one record per step."""
    import torch

    from mats_ray.models import packing
    from mats_ray.models.build import build_mats
    from mats_ray.models.mats import MATS
    from mats_ray.models.splice import IGNORED
    from mats_ray.train.dataloader import micro_batches
    from mats_ray.train.engine import TorchEngine
    from mats_ray.train.loop import LocalContext, fit

    class AllLogits(MATS):
        """Logits wherever there is a position."""

        def forward(self, batch):
            spliced = self._splice(batch.clap_BC, batch.after_BT, batch.mask_BT)
            logits = self.llm(inputs_embeds=spliced.embeds_BSL, use_cache=False).logits
            prefix_labels = batch.labels_BT.new_full(
                (len(logits), logits.shape[1] - batch.labels_BT.shape[1]), IGNORED
            )
            labels = torch.cat([prefix_labels, batch.labels_BT], dim=1)
            return torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(),
                labels[:, 1:].flatten(),
                ignore_index=IGNORED,
                reduction="sum",
            )

    packing.SUPPORTED = frozenset() if variant in {"padded", "all-logits"} else packing.SUPPORTED
    if variant == "no-lengths":
        config = config.replace(data={"group_by_length": False})
    model, prompts = build_mats(config.model, llm_path=config.llm_path, seed=config.seed)
    engine = TorchEngine(model, config.train.optim)
    if variant == "all-logits":
        model.__class__ = AllLogits
    if variant == "all-gradients":
        for parameter in model.parameters():
            parameter.requires_grad_()
    batches = micro_batches(row_tables(config), prompts, config)
    if variant == "no-cache":
        batches = (next(micro_batches([table], prompts, config)) for table in row_tables(config))

    class Clocked(LocalContext):
        def log(self, record, samples=()):
            tokens = record["tokens_per_s"] / record["samples_per_s"] * config.train.global_batch_size
            clocks = {"cpu": time.process_time(), "tokens_per_wall_s": record["tokens_per_s"]}
            super().log({"loss": record["loss"], "tokens": tokens, **clocks}, samples)

    context = Clocked()
    with tempfile.TemporaryDirectory() as scratch:
        tempfile.tempdir = scratch
        fit(engine, batches, context, config.replace(train={"checkpoint": {"every_steps": 10**6}}))
        tempfile.tempdir = None
    return context.records


def run_plain(config) -> list[dict]:
    """The simplest way: a wrapper that splices and computes a loss, peft, and transformers' Trainer."""
    import numpy as np
    import torch
    from torch import nn
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from mats_ray.data.triplets import EMBEDDING, embedding_matrix
    from mats_ray.models.build import build_mats

    model, prompts = build_mats(config.model, llm_path=config.llm_path, seed=config.seed)
    tables = list(row_tables(config.replace(data={"group_by_length": False})))
    rows = [
        {"clap": clap, "instruction": row["instruction"], "answer": row["answer"]}
        for table in tables
        for clap, row in zip(embedding_matrix(table.column(EMBEDDING)), table.to_pylist(), strict=True)
    ]

    class Wrapper(nn.Module):
        accepts_loss_kwargs = True

        def __init__(self) -> None:
            super().__init__()
            self.mats = model

        def forward(self, clap, input_ids, attention_mask, labels, num_items_in_batch=None):
            embed = self.mats.llm.get_base_model().get_input_embeddings()
            before = embed(self.mats.before_F).expand(len(clap), -1, -1)
            prefix = self.mats.connector(clap)
            embeds = torch.cat([before, prefix, embed(input_ids)], dim=1)
            prefix_mask = torch.ones(len(clap), before.shape[1] + prefix.shape[1], dtype=torch.long)
            mask = torch.cat([prefix_mask, attention_mask], dim=1)
            logits = self.mats.llm(inputs_embeds=embeds, attention_mask=mask).logits
            all_labels = torch.cat([torch.full_like(prefix_mask, -100), labels], dim=1)
            loss = nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), all_labels[:, 1:].flatten(), reduction="sum"
            )
            return {"loss": loss / num_items_in_batch}

    tokens = [0]

    def collate(samples):
        texts = [prompts.sample(s["instruction"], s["answer"], max_text_tokens=150) for s in samples]
        width = max(len(text.prompt) + len(text.answer) for text in texts)
        ids, mask, labels = (torch.full((len(texts), width), fill) for fill in (0, 0, -100))
        for i, text in enumerate(texts):
            both = text.prompt + text.answer
            ids[i, : len(both)] = torch.tensor(both)
            mask[i, : len(both)] = 1
            labels[i, len(text.prompt) : len(both)] = torch.tensor(text.answer)
        tokens[0] += int(mask.sum())
        clap = torch.from_numpy(np.stack([s["clap"] for s in samples]))
        return {"clap": clap, "input_ids": ids, "attention_mask": mask, "labels": labels}

    records = []

    class Clock(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            if logs and "loss" in logs:
                records.append({"loss": logs["loss"], "tokens": tokens[0], "cpu": time.process_time()})
                tokens[0] = 0

    class InOrder(Trainer):
        def _get_train_sampler(self, *_, **__):
            return torch.utils.data.SequentialSampler(rows)

    train = config.train
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=train.micro_batch_size,
            gradient_accumulation_steps=train.accumulation_steps(1),
            max_steps=train.num_steps,
            learning_rate=LR,
            adam_beta1=BETAS[0],
            adam_beta2=BETAS[1],
            weight_decay=DECAY,
            max_grad_norm=train.optim.max_grad_norm,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            use_cpu=True,
            disable_tqdm=True,
            dataloader_num_workers=0,
        )
        InOrder(Wrapper(), arguments, data_collator=collate, train_dataset=rows, callbacks=[Clock()]).train()
    return records


def measure(variant: str, folder: Path) -> dict:
    """Run one side in this process."""
    import torch

    from mats_ray.config import RunConfig

    torch.set_num_threads(1)
    config = RunConfig.model_validate_json((folder / "config.json").read_text())
    records = run_plain(config) if variant == "plain" else run_ours(config, variant)
    seconds = records[-1]["cpu"] - records[WARM_STEPS - 1]["cpu"]
    return {
        "tokens_per_s": sum(record["tokens"] for record in records[WARM_STEPS:]) / seconds,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "losses": [record["loss"] for record in records],
        "tokens_per_wall_s": [record.get("tokens_per_wall_s", 0) for record in records[WARM_STEPS:]],
    }


def in_process(variant: str, folder: Path) -> dict:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "--one", variant, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{variant} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(config, folder: Path, repeats: int, variants: list[str]) -> None:
    """All variants, interleaved and repeated; medians, and ratios to the plain way."""
    (folder / "config.json").write_text(config.model_dump_json())
    runs = {variant: [] for variant in variants}
    for _ in range(repeats):
        for variant in variants:
            runs[variant].append(in_process(variant, folder))
            found = {key: runs[variant][-1][key] for key in ("tokens_per_s", "peak_gb")}
            print(f"{variant}: {found}", file=sys.stderr, flush=True)
    rates = {v: median([run["tokens_per_s"] for run in found]) for v, found in runs.items()}
    first = {v: found[0] for v, found in runs.items()}
    plain = first.get("plain", first["ours"])
    print("| variant | non-padding tokens/s | ours is faster by | peak memory, GB | losses apart by |")
    print("|---|---|---|---|---|")
    for variant in variants:
        pairs = zip(first[variant]["losses"], plain["losses"], strict=True)
        apart = max(abs(a - b) / b for a, b in pairs)
        ratio, memory = rates["ours"] / rates[variant], first[variant]["peak_gb"]
        print(f"| {VARIANTS[variant]} | {rates[variant]:.0f} | {ratio:.2f} x | {memory:.2f} | {apart:.1e} |")


def overhead(config, folder: Path) -> None:
    """One worker under Ray Train and DeepSpeed against the same loop bare; and how long it waits for data."""
    from mats_ray.cli.on_ray import cluster
    from mats_ray.train.metrics_logger import read_records
    from mats_ray.train.on_ray import train

    (folder / "config.json").write_text(config.model_dump_json())
    before = in_process("ours", folder)["tokens_per_wall_s"]
    with cluster():
        result = train(config.replace(train={"engine": {"type": "deepspeed", "zero_stage": 2}}))
    after = in_process("ours", folder)["tokens_per_wall_s"]
    records = list(read_records(result.metrics).values())[WARM_STEPS:]
    bare, on_ray = median(before + after), median([record["tokens_per_s"] for record in records])
    waits = [record["data_wait_share"] for record in records]
    print("| tokens/s by the wall clock, median of steps | |")
    print("|---|---|")
    print(f"| bare loop, plain torch | {bare:.0f} (before {median(before):.0f}, after {median(after):.0f}) |")
    print(f"| Ray Train + DeepSpeed ZeRO-2, one worker | {on_ray:.0f} |")
    print(f"| overhead | {bare / on_ray - 1:.1%} |")
    print(f"| share of a step waiting for data: median, worst | {median(waits):.1%}, {max(waits):.1%} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=["plain", "ray"], default="plain")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--micro-batch", type=int, default=16)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--annotations", type=Path, help="folder of real annotation files")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocab", type=int, default=8000)
    parser.add_argument("--one", choices=list(VARIANTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if args.one:
        print(json.dumps(measure(args.one, args.folder)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = build(folder, args)
        if args.part == "ray":
            overhead(config, folder)
        else:
            compare(config, folder, args.repeats, list(dict.fromkeys(["ours", *args.variants])))


if __name__ == "__main__":
    main()
