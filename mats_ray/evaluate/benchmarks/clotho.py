"""Clotho: clips of Freesound, 15 to 30 seconds, with five captions."""

from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.captions import caption_scores
from mats_ray.evaluate.readers.captions import read_clotho
from mats_ray.tasks import INSTRUCTIONS, Task

BENCHMARK = Benchmark(
    name="clotho",
    title="Clotho",
    paper="Drossos et al., 2020, ICASSP",
    license="Tampere University, non-commercial",
    source="zenodo.org/records/4783391: clotho_captions_evaluation.csv, clotho_audio_evaluation.7z",
    files=(r"clotho_captions_evaluation\.csv",),
    other_files=(r"clotho_captions_(development|validation)\.csv", r"clotho_metadata_.*\.csv"),
    split="evaluation",
    size=1_045,
    read=read_clotho,
    prompt=INSTRUCTIONS[Task.CAPTION],
    upstream_prefix="[audio caption clotho]",
    score=caption_scores,
    results={
        "cider_d": {
            "Pengi†": 0.416, "Audio Flamingo†": 0.465, "NoAudioCaptioning": 0.379, "PromptAAC": 0.403,
            "DRCap": 0.438, "MATS-GPT2": 0.413, "MATS-LLaMA": 0.431, "MATS-Audio†": 0.448,
        },
        "spice": {
            "Pengi†": 0.126, "LTU†": 0.119, "GAMA†": 0.135, "NoAudioCaptioning": 0.132, "PromptAAC": 0.119,
            "DRCap": 0.133, "MATS-GPT2": 0.124, "MATS-LLaMA": 0.134, "MATS-Audio†": 0.137,
        },
        "spider": {
            "Pengi†": 0.271, "NoAudioCaptioning": 0.256, "PromptAAC": 0.261, "DRCap": 0.285,
            "MATS-GPT2": 0.269, "MATS-LLaMA": 0.282, "MATS-Audio†": 0.293,
        },
    },
    note="MATS, DRCap, PromptAAC and NoAudioCaptioning trained on captions of this set without audio.",
)  # fmt: skip
