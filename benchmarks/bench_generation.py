"""Our search against transformers' ``generate`` on a CPU: prompts alone, and answers, side by side.

    python -m benchmarks.bench_generation

Eight prompts of 84 to 91 positions, random weights, no answer ends early. GPT-2 of 124 M parameters, and two
layers of LLaMA-7B at full width. Both sides get the same embedded prompts and apply the same penalties; they
take turns, and the median of each is compared. Weights are frozen, as a model that answers has them.
"""

import argparse
from collections.abc import Callable

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.gpu_train import SIZES, compared, random_llama
from mats_ray.config.generation import PROFILES
from mats_ray.config.model import MapperConfig
from mats_ray.models.build import build_connector
from mats_ray.models.mapper import init_connector
from mats_ray.models.mats import MATS

ROWS, CLAP_DIM = 8, 1024
PROFILE_OF = {"greedy": "fast", "4 beams": "paper"}


def gpt2(dtype: torch.dtype) -> torch.nn.Module:
    """GPT-2 of random weights, its embedding its output layer."""
    return GPT2LMHeadModel(GPT2Config()).to(dtype)


def llama(dtype: torch.dtype) -> torch.nn.Module:
    """Two layers of LLaMA-7B of random weights."""
    return random_llama(SIZES["7b"] | {"layers": 2}, "cpu", dtype)


MODELS = {
    "GPT-2, float32": (gpt2, torch.float32),
    "GPT-2, bfloat16": (gpt2, torch.bfloat16),
    "LLaMA, 2 layers, bfloat16": (llama, torch.bfloat16),
}


def build(make: Callable[[torch.dtype], torch.nn.Module], dtype: torch.dtype) -> MATS:
    """Put a mapper before a language model; no token ends an answer."""
    llm = make(dtype)
    mapper, dim = MapperConfig(), llm.get_input_embeddings().embedding_dim
    connector = build_connector(mapper, clap_dim=CLAP_DIM, llm_dim=dim)
    init_connector(connector, generator=torch.Generator().manual_seed(0))
    model = MATS(connector, llm, before_ids=[1, 2, 3, 4], eos_id=llm.config.vocab_size)
    # PyTorch multiplies weights that are to be trained in another way
    return model.eval().requires_grad_(requires_grad=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--new-tokens", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{ROWS} prompts, {args.threads} threads, torch {torch.__version__}, median of {args.repeats}\n")
    print("| model | search | tokens | ours, s | transformers, s | ratio | equal answers |")
    print("|---|---|---|---|---|---|---|")
    for name, (make, dtype) in MODELS.items():
        model = build(make, dtype)
        for search, tokens in (("greedy", 1), *((search, args.new_tokens) for search in PROFILE_OF)):
            _row(model, name, search, tokens, args.repeats)


def _row(model: MATS, name: str, search: str, tokens: int, repeats: int) -> None:
    draw = torch.Generator().manual_seed(0)
    clap = torch.randn(ROWS, CLAP_DIM, generator=draw)
    lengths = torch.randint(40, 48, (ROWS,), generator=draw).tolist()
    prompts = [torch.randint(5, 30_000, (length,), generator=draw).tolist() for length in lengths]
    decoding = PROFILES[PROFILE_OF[search]].as_kwargs()
    found = compared(model, clap, prompts, decoding, tokens=tokens, device="cpu", repeats=repeats)
    ours, theirs = ROWS / found["ours_per_s"], ROWS / found["transformers_per_s"]
    print(
        f"| {name} | {search} | {tokens} | {ours:.2f} | {theirs:.2f} | {found['ratio']:.2f} x "
        f"| {found['equal'] * ROWS:.0f} of {ROWS} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
