"""MATS-LLaMA on a GPU: training, CLAP's text encoder, generation. Needs torch, transformers and peft.

    python benchmarks/gpu_train.py                 # a card with 80 GB or more; random LLaMA-7B, exact shapes
    python benchmarks/gpu_train.py --size tiny     # the same code on a CPU, to see that it runs

Weights are random: speed does not depend on them. Text lengths are drawn like those of AudioCaps captions
behind a caption instruction. MFU is the share of the measured matrix-product ceiling, useful operations only
(``mats_ray/train/flops.py``), in bf16 on a GPU.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator

import torch
from transformers import (
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaModel,
)

from mats_ray.config.generation import PROFILES
from mats_ray.config.model import LLMConfig, LoRAConfig, MapperConfig
from mats_ray.models.build import build_connector
from mats_ray.models.llm import attach
from mats_ray.models.mapper import init_connector
from mats_ray.models.mats import MATS, TrainBatch
from mats_ray.models.splice import IGNORED, pad_left
from mats_ray.train import metrics
from mats_ray.train.flops import TrainingFlops, llm_shape

SIZES = {
    "7b": {"dim": 4096, "layers": 32, "heads": 32, "mlp": 11008, "vocab": 32000, "clap": 1024},
    "tiny": {"dim": 64, "layers": 2, "heads": 2, "mlp": 128, "vocab": 500, "clap": 16},
}
MAPPERS = {
    "7b": MapperConfig(),
    "tiny": MapperConfig(hidden_dim=32, num_layers=2, num_heads=2, prefix_length=8, content_length=8),
}
INSTRUCTION_TOKENS, CAPTION_MEAN, CAPTION_SD = 16, 13, 5
"""Numbers of LLaMA tokens: the caption instruction with its frame, AudioCaps captions (about 9 words)."""


def random_llama(shape: dict[str, int], device: str, dtype: torch.dtype, **settings) -> LlamaForCausalLM:
    """A LLaMA of random weights, made on the device in one precision; ``settings`` of its configuration."""
    config = LlamaConfig(
        vocab_size=shape["vocab"],
        hidden_size=shape["dim"],
        intermediate_size=shape["mlp"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        tie_word_embeddings=False,
        **settings,
    )
    torch.set_default_dtype(dtype)
    with torch.device(device):
        llm = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return llm


def build(size: str, device: str, dtype: torch.dtype) -> MATS:
    """A random LLaMA in one precision, LoRA r=8 on q and v and the mapper in float32: as loaded."""
    shape, mapper = SIZES[size], MAPPERS[size]
    llm = random_llama(shape, device, dtype)
    generator = torch.Generator().manual_seed(0)
    connector = build_connector(mapper, clap_dim=shape["clap"], llm_dim=shape["dim"])
    init_connector(connector, generator=generator)
    adapted = attach(
        llm, LLMConfig(lora=LoRAConfig(dropout=0.1)), generator=torch.Generator(device).manual_seed(0)
    )
    return MATS(connector, adapted, before_ids=[1, 2, 3, 4], eos_id=2).to(device).train()


def batch_of(size: str, rows: int, device: str, seed: int = 0) -> TrainBatch:
    """Random ids of AudioCaps-like lengths, right-padded to the longest of the batch."""
    generator = torch.Generator().manual_seed(seed)
    captions = (
        (torch.randn(rows, generator=generator) * CAPTION_SD + CAPTION_MEAN).round().clamp(4, 40).long()
    )
    width = INSTRUCTION_TOKENS + int(captions.max()) + 1
    ids = torch.randint(3, SIZES[size]["vocab"], (rows, width), generator=generator)
    position = torch.arange(width)[None]
    mask = (position <= INSTRUCTION_TOKENS + captions[:, None]).long()
    labels = ids.masked_fill((mask == 0) | (position < INSTRUCTION_TOKENS), IGNORED)
    clap = torch.randn(rows, SIZES[size]["clap"], generator=generator)
    return TrainBatch(clap.to(device), ids.to(device), mask.to(device), labels.to(device))


def timed(work: Callable[[], object], device: str, *, repeats: int) -> float:
    """Median seconds of a piece of work after one to warm up."""
    return statistics.median([metrics.timed(work, device) for _ in range(repeats + 1)][1:])


def training(args: argparse.Namespace, device: str, dtype: torch.dtype) -> Iterator[dict]:
    """Samples/s, non-padding tokens/s, MFU and peak memory by micro-batch, up to one that does not fit."""
    peak = metrics.measured_peak(device, dtype=dtype)
    print(f"\n## Training ({args.size}, {dtype}), matrix products reach {peak / 1e12:.2f} TFLOP/s here\n")
    model = build(args.size, device, dtype).to(dtype)  # as DeepSpeed casts it in a bf16 run
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=device == "cuda")
    flops = TrainingFlops(
        llm_shape(model.llm.config), MAPPERS[args.size], SIZES[args.size]["clap"], LoRAConfig()
    )
    print(f"{sum(p.numel() for p in trained) / 1e6:.1f} M parameters trained, engine: plain torch\n")
    print("| micro-batch | samples/s | non-padding text tokens/s | MFU | peak memory, GB |")
    print("|---|---|---|---|---|")
    for rows in args.micro_batches:
        batch = batch_of(args.size, rows, "cpu")

        def step(batch: TrainBatch = batch) -> None:
            # as the engines do: laid out on the host, then moved
            loss = model(model.laid_out(batch).to(device))
            (loss / batch.num_answer_tokens).backward()
            optimizer.step()
            optimizer.zero_grad()

        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        try:
            seconds = timed(step, device, repeats=args.repeats)
        except torch.cuda.OutOfMemoryError:
            print(f"| {rows} | out of memory | | | |")
            return
        done = flops.count(
            samples=rows, text_tokens=batch.num_text_tokens, answer_tokens=batch.num_answer_tokens
        )
        row = {
            "micro_batch": rows,
            "samples_per_s": rows / seconds,
            "tokens_per_s": batch.num_text_tokens / seconds,
            "mfu": done / seconds / peak,
            "memory_gb": torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None,
        }
        memory = "-" if row["memory_gb"] is None else f"{row['memory_gb']:.1f}"
        rates = f"{row['samples_per_s']:.1f} | {row['tokens_per_s']:.0f} | {row['mfu']:.1%}"
        print(f"| {rows} | {rates} | {memory} |", flush=True)
        yield row


def deepspeed(args: argparse.Namespace, device: str, dtype: torch.dtype) -> Iterator[dict]:
    """The same step through the engine that runs it in production: one row, none without DeepSpeed."""
    try:
        import os

        from mats_ray.config.train import TrainConfig

        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        if device == "cpu":
            os.environ["DS_ACCELERATOR"] = "cpu"
        from mats_ray.train.on_deepspeed import DeepSpeedEngine
    except ImportError as error:
        print(f"\nDeepSpeed is not installed ({error}); its row is left out")
        return
    rows = args.micro_batches[min(2, len(args.micro_batches) - 1)]
    backend = "nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, store=torch.distributed.HashStore(), rank=0, world_size=1)
    precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    config = TrainConfig.model_validate(
        {"global_batch_size": rows, "micro_batch_size": rows, "engine": {"precision": precision}}
    )
    engine = DeepSpeedEngine(build(args.size, device, dtype), config, device=device)
    batch = batch_of(args.size, rows, "cpu")
    seconds = timed(lambda: engine.train_step([batch], lr=1e-5, seeds=[0]), device, repeats=args.repeats)
    print(f"\nDeepSpeed ZeRO-2, {precision}, micro-batch {rows}: {rows / seconds:.1f} samples/s")
    torch.distributed.destroy_process_group()
    yield {"micro_batch": rows, "samples_per_s": rows / seconds}


@torch.inference_mode()
def embedding(args: argparse.Namespace, device: str, dtype: torch.dtype) -> Iterator[dict]:
    """Captions/s through the text encoders of both CLAP families, shapes only; CLAP is always float32."""
    print("\n## CLAP text encoders, captions of 16 tokens\n\n| encoder | batch | captions/s |\n|---|---|---|")
    tiny = args.size == "tiny"
    gpt2 = GPT2Config(n_embd=64, n_layer=2, n_head=2) if tiny else GPT2Config()
    roberta = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2} if tiny else {}
    roberta = RobertaConfig(vocab_size=50265, max_position_embeddings=514, **roberta)
    encoders = {"GPT-2 (MS-CLAP 2023)": GPT2Model(gpt2), "RoBERTa-base (LAION-CLAP)": RobertaModel(roberta)}
    for name, built in encoders.items():
        encoder = built.to(device).eval()
        for rows in args.embed_batches:
            ids = torch.randint(5, 1000, (rows, 16), device=device)
            seconds = timed(lambda e=encoder, i=ids: e(input_ids=i), device, repeats=args.repeats)
            print(f"| {name} | {rows} | {rows / seconds:.0f} |", flush=True)
            yield {"encoder": name, "batch": rows, "captions_per_s": rows / seconds}


def compared(
    model: MATS,
    clap: torch.Tensor,
    prompts: list[list[int]],
    decoding: dict,
    *,
    tokens: int,
    device: str,
    repeats: int,
) -> dict:
    """Answers/s of our search and of transformers' ``generate`` on the same prompts, and the equal share.

    They take turns; the median of each counts, after a turn that does not.
    """
    found: dict[str, list] = {}
    seconds = {"ours": list[float](), "theirs": list[float]()}

    def ours() -> None:
        found["ours"] = model.generate(clap, prompts, max_new_tokens=tokens, **decoding)

    @torch.inference_mode()
    def theirs() -> None:
        spliced = pad_left(model.prompt(clap, prompts))
        found["theirs"] = model.generate_by_transformers(spliced, max_new_tokens=tokens, **decoding)

    for _ in range(repeats + 1):
        seconds["ours"].append(metrics.timed(ours, device))
        seconds["theirs"].append(metrics.timed(theirs, device))
    rates = [len(prompts) / statistics.median(one[1:]) for one in seconds.values()]
    equal = [a.ids == b.ids for a, b in zip(found["ours"], found["theirs"], strict=True)]
    return {
        "ours_per_s": rates[0],
        "transformers_per_s": rates[1],
        "ratio": rates[0] / rates[1],
        "equal": sum(equal) / len(equal),
    }


def generation(args: argparse.Namespace, device: str, dtype: torch.dtype) -> Iterator[dict]:
    """Captions/s, greedy and as the paper searches, by batch; no answer ends early.

    Ours is the continuous batch, theirs transformers' ``generate`` on the same prompts.
    """
    tokens = args.new_tokens
    print(f"\n## Generation of {tokens} tokens, captions/s\n")
    print("| decoding | batch | ours | transformers | ratio | equal tokens |\n|---|---|---|---|---|---|")
    model = build(args.size, device, dtype).eval()
    model.eos_id = SIZES[args.size]["vocab"]  # no token has it
    repeats = max(1, args.repeats // 3)
    for name, profile in {"greedy": "fast", "4 beams": "paper"}.items():
        decoding = PROFILES[profile].as_kwargs()
        for rows in args.generate_batches:
            batch = batch_of(args.size, rows, device)
            ids = batch.after_BT[:, :INSTRUCTION_TOKENS].tolist()
            row = {"decoding": name, "batch": rows}
            row |= compared(
                model, batch.clap_BC, ids, decoding, tokens=tokens, device=device, repeats=repeats
            )
            print(
                f"| {name} | {rows} | {row['ours_per_s']:.1f} | {row['transformers_per_s']:.1f} "
                f"| {row['ratio']:.2f} x | {row['equal'] * rows:.0f} of {rows} |",
                flush=True,
            )
            yield row


PARTS = {"training": training, "deepspeed": deepspeed, "embedding": embedding, "generation": generation}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Parse arguments; what is not given depends on the size."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--size", choices=list(SIZES), default="7b")
    parser.add_argument("--micro-batches", type=int, nargs="+")
    parser.add_argument("--embed-batches", type=int, nargs="+")
    parser.add_argument("--generate-batches", type=int, nargs="+")
    parser.add_argument("--new-tokens", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    args = parser.parse_args(words)
    tiny = args.size == "tiny"
    args.micro_batches = args.micro_batches or ([2, 4] if tiny else [8, 16, 32, 64, 128])
    args.embed_batches = args.embed_batches or ([8] if tiny else [256, 1024, 4096])
    args.generate_batches = args.generate_batches or ([2] if tiny else [1, 8, 32, 64, 128])
    args.new_tokens = args.new_tokens or (4 if tiny else 20)
    args.repeats = args.repeats or (2 if tiny else 10)
    return args


def main() -> None:
    args = arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}, torch {torch.__version__}")
    for part in args.parts:
        for _ in PARTS[part](args, device, dtype):  # each row is printed when it is measured
            pass


if __name__ == "__main__":
    main()
