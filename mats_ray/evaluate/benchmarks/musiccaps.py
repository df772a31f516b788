"""MusicCaps: clips of AudioSet with music, ten seconds each, with one long caption."""

from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.captions import music_caption_scores
from mats_ray.evaluate.readers.captions import read_musiccaps
from mats_ray.tasks import INSTRUCTIONS, Task

BENCHMARK = Benchmark(
    name="musiccaps",
    title="MusicCaps",
    paper="Agostinelli et al., 2023, arXiv:2301.11325",
    license="CC BY-SA 4.0",
    source="huggingface.co/datasets/google/MusicCaps: musiccaps-public.csv; audio from YouTube",
    files=(r"musiccaps-public\.csv",),
    split="clips with is_audioset_eval",
    size=2_858,
    read=read_musiccaps,
    prompt=INSTRUCTIONS[Task.MUSIC_CAPTION],
    upstream_prefix="[music caption]",
    score=music_caption_scores,
    results={
        "rouge_l": {
            "SALMONN†": 0.215, "LP-MusicCaps": 0.130, "MATS-GPT2": 0.229, "MATS-LLaMA": 0.187,
            "MATS-Audio†": 0.217,
        },
        "bleu_4": {
            "SALMONN†": 0.061, "LP-MusicCaps": 0.007, "MATS-GPT2": 0.045, "MATS-LLaMA": 0.032,
            "MATS-Audio†": 0.054,
        },
    },
    note="The paper prints both measures times 100, by an implementation it does not name.",
)  # fmt: skip
