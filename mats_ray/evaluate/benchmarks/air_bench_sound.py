"""AIR-Bench chat, sound: open questions, rated 1 to 10 by a judge."""

from mats_ray.evaluate.benchmark import Benchmark, Submission
from mats_ray.evaluate.metrics.judge import judged
from mats_ray.evaluate.readers.air_bench import reader

BENCHMARK = Benchmark(
    name="air_bench_sound",
    title="AIR-Bench chat, sound",
    paper="Yang et al., 2024, ACL",
    license="unknown",
    source="huggingface.co/datasets/qyang1021/AIR-Bench-Dataset: Chat/Chat_meta.json, Chat/*/",
    files=(r"Chat_meta\.json",),
    other_files=(r"Foundation_meta\.json",),
    split="chat tasks sound_QA and sound_generation_QA",
    size=500,
    read=reader({"sound_QA", "sound_generation_QA"}),
    upstream_prefix="[open ended]",
    score=judged,
    results={
        "judge": {
            "Qwen2-Audio": 6.99, "Qwen-Audio-Turbo": 6.59, "Qwen-Audio": 6.95, "SALMONN": 6.28,
            "BLSP": 5.55, "Gemini-1.5-pro": 5.49, "PandaGPT": 5.46, "NExT-GPT": 4.76, "MATS-GPT2": 4.33,
            "MATS-LLaMA": 6.43, "MATS-Audio": 6.25,
        }
    },
    submission=Submission(file="chat_result.jsonl", id_key="uniq_id", answer_key="response"),
    note="The published judge is gpt-4-0125-preview; scores of other judges cannot be compared with these.",
)  # fmt: skip
