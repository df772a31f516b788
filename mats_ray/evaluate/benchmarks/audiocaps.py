"""AudioCaps: clips of AudioSet, ten seconds each, with five captions."""

from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.captions import caption_scores
from mats_ray.evaluate.readers.captions import read_audiocaps
from mats_ray.tasks import INSTRUCTIONS, Task

BENCHMARK = Benchmark(
    name="audiocaps",
    title="AudioCaps",
    paper="Kim et al., 2019, NAACL",
    license="MIT",
    source="github.com/cdjkim/audiocaps: dataset/test.csv; audio from YouTube",
    files=(r"test\.csv",),
    other_files=(r"(train|val)\.csv", r"train_v2\.csv"),
    split="test, 4,875 captions",
    size=975,
    read=read_audiocaps,
    prompt=INSTRUCTIONS[Task.CAPTION],
    upstream_prefix="[audio caption audiocaps]",
    score=caption_scores,
    results={
        "cider_d": {
            "Pengi†": 0.752, "Audio Flamingo": 0.502, "NoAudioCaptioning": 0.697, "PromptAAC": 0.644,
            "DRCap": 0.718, "MATS-GPT2": 0.676, "MATS-LLaMA": 0.735, "MATS-Audio†": 0.704,
        },
        "spice": {
            "Pengi†": 0.182, "LTU†": 0.170, "GAMA†": 0.185, "LTU-AS†": 0.150, "NoAudioCaptioning": 0.178,
            "PromptAAC": 0.156, "DRCap": 0.186, "MATS-GPT2": 0.164, "MATS-LLaMA": 0.171, "MATS-Audio†": 0.171,
        },
        "spider": {
            "Pengi†": 0.467, "SALMONN†": 0.485, "NoAudioCaptioning": 0.437, "PromptAAC": 0.400,
            "DRCap": 0.452, "MATS-GPT2": 0.420, "MATS-LLaMA": 0.453, "MATS-Audio†": 0.438,
        },
    },
    note="MATS, DRCap, PromptAAC and NoAudioCaptioning trained on captions of this set without audio; the "
    "paper prints Audio Flamingo's CIDEr as SPIDEr.",
)  # fmt: skip
