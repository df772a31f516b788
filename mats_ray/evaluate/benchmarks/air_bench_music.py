"""AIR-Bench chat, music: open questions, rated 1 to 10 by a judge."""

from mats_ray.evaluate.benchmark import Benchmark, Submission
from mats_ray.evaluate.metrics.judge import judged
from mats_ray.evaluate.readers.air_bench import reader

BENCHMARK = Benchmark(
    name="air_bench_music",
    title="AIR-Bench chat, music",
    paper="Yang et al., 2024, ACL",
    license="unknown",
    source="huggingface.co/datasets/qyang1021/AIR-Bench-Dataset: Chat/Chat_meta.json, Chat/*/",
    files=(r"Chat_meta\.json",),
    other_files=(r"Foundation_meta\.json",),
    split="chat tasks music_QA and music_generation_analysis_QA",
    size=500,
    read=reader({"music_QA", "music_generation_analysis_QA"}),
    upstream_prefix="[open ended]",
    score=judged,
    results={
        "judge": {
            "Qwen2-Audio": 6.79, "Qwen-Audio-Turbo": 5.98, "Qwen-Audio": 5.52, "SALMONN": 5.95,
            "BLSP": 5.08, "Gemini-1.5-pro": 5.06, "PandaGPT": 5.06, "NExT-GPT": 4.18, "MATS-GPT2": 3.31,
            "MATS-LLaMA": 5.76, "MATS-Audio": 5.77,
        }
    },
    submission=Submission(file="chat_result.jsonl", id_key="uniq_id", answer_key="response"),
    note="The published judge is gpt-4-0125-preview; scores of other judges cannot be compared with these.",
)  # fmt: skip
