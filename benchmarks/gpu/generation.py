"""Generation: our search against transformers' ``generate``, each engine against one request at a time."""

import time

import numpy as np
import torch

from benchmarks import gpu_train
from benchmarks.gpu.parts import Outcome
from benchmarks.gpu.sizes import Size
from benchmarks.gpu.stand_in import model_directory
from mats_ray.config.answer import AnswerOptions
from mats_ray.infer.engine import Generation, GenerationRequest, generate
from mats_ray.infer.engines import ENGINES, build_engine
from mats_ray.models.directory import read_info
from mats_ray.tasks import Task, instruction_for


def run(size: Size, device: str, outcome: Outcome) -> None:
    args = gpu_train.arguments(["--size", size.name])
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    figures = outcome.figures
    for row in gpu_train.generation(args, device, dtype):
        name = "greedy" if row["decoding"] == "greedy" else "beams"
        figures[f"{name}_per_s"] = max(figures.get(f"{name}_per_s", 0.0), row["ours_per_s"])
        figures[f"{name}_over_transformers"] = row["ratio"]  # in the end that of the largest batch
        if device == "cpu" and row["equal"] < 1:
            outcome.failures.append(f"tokens differ from transformers' in float32: {row}")
        outcome.add(f"Answers/s of {args.new_tokens} tokens", row)
    if device == "cuda":
        torch.cuda.empty_cache()
    for name in ENGINES:
        row = engine(name, size, device)
        figures[f"{name}_per_s"] = row["answers_per_s"]
        figures[f"{name}_over_one_at_a_time"] = row["ratio"]
        outcome.add(f"Engines, {size.places} requests at once, greedy", row)


def engine(name: str, size: Size, device: str) -> dict:
    """Answers/s of one engine, all requests at once and one at a time."""
    info = read_info(model_directory(size, device))
    built = build_engine(info, device=device, max_requests=size.places, engine=name)
    draw = np.random.default_rng(0)
    options = AnswerOptions(profile="fast", max_new_tokens=size.new_tokens)

    def requests(number: int) -> list[GenerationRequest]:
        return [
            GenerationRequest(
                embedding_C=draw.normal(size=size.llm["clap"]).astype(np.float32),
                instruction=instruction_for(Task.CAPTION),
                options=options,
                stream=False,
            )
            for _ in range(number)
        ]

    def rate(batches: list[list[GenerationRequest]]) -> float:
        started = time.perf_counter()
        answers = [answer for batch in batches for answer in generate(built, batch)]
        seconds = time.perf_counter() - started
        assert all(isinstance(answer, Generation) for answer in answers), answers
        return len(answers) / seconds

    rate([requests(size.places)])  # warm
    together = rate([requests(size.places) for _ in range(2)])
    alone = rate([[one] for one in requests(max(2, size.places // 8))])
    built.close()
    return {"engine": name, "answers_per_s": together, "one_at_a_time": alone, "ratio": together / alone}
