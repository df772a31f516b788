"""One update of Muon for the demo's two small models: torch's, in bfloat16, and ours, in float32.

    python benchmarks/bench_muon.py [--repeats 5]

Prints the median CPU seconds of both, pair by pair, and their ratio. Where the CPU multiplies bfloat16 itself
(AVX512-BF16, AMX) both are short; where it does not, torch's is most of a training step.
"""

import argparse
import statistics
import time

import torch
from transformers import ClapModel, LlamaForCausalLM

from mats_ray.config import load_config
from mats_ray.toy.clap import clap_config
from mats_ray.toy.fitting import Muon, optimizers
from mats_ray.toy.llm import llama_config
from mats_ray.toy.tokenizer import train_tokenizer


def seconds(optimizer: torch.optim.Optimizer) -> float:
    started = time.process_time()
    optimizer.step()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    config, tokenizer = load_config("configs/toy.yaml"), train_tokenizer(["A dog barks in the rain"])
    models = {
        "CLAP": ClapModel(clap_config(tokenizer, dim=config.model.clap.dim)),
        "LLaMA": LlamaForCausalLM(llama_config(tokenizer, config.toy)),
    }
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    for name, model in models.items():
        for weight in model.parameters():
            weight.grad = torch.randn_like(weight)
        (ours, _), _ = optimizers(model.named_parameters(), matrices=1e-2, others=1e-3)
        assert isinstance(ours, Muon)
        theirs = torch.optim.Muon(ours.param_groups[0]["params"], weight_decay=0.1, momentum=0.9)
        seconds(ours), seconds(theirs)
        pairs = [(seconds(theirs), seconds(ours)) for _ in range(args.repeats)]
        theirs_s, ours_s = (statistics.median(one) for one in zip(*pairs, strict=True))
        ratio = statistics.median(first / second for first, second in pairs)
        print(f"{name}: torch's {theirs_s:.3f} s, ours {ours_s:.3f} s, {ratio:.1f} x")


if __name__ == "__main__":
    main()
