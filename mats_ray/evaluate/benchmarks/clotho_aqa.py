"""ClothoAQA as MWAFM cleaned it: questions on which two of three annotators agree."""

from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.answers import exact_answers
from mats_ray.evaluate.readers.questions import read_clotho_aqa

BENCHMARK = Benchmark(
    name="clotho_aqa",
    title="ClothoAQA",
    paper="Lipping et al., 2022, EUSIPCO; cleaned by Li et al., 2023, Interspeech",
    license="MIT",
    source="github.com/GeWu-Lab/MWAFM: metadata/clotho_aqa_test_clean.csv; zenodo.org/records/6473207: audio",
    files=(r"clotho_aqa_test_clean\.csv",),
    other_files=(
        r"clotho_aqa_(train|val)_clean\.csv",
        r"clotho_aqa_(train|val|test|metadata)\.csv",
        r"(binary|single_word)_.*\.csv",
    ),
    split="MWAFM's cleaned test split, a row per question",
    size=2_476,
    read=read_clotho_aqa,
    upstream_prefix="[audio qa]",
    score=exact_answers,
    results={
        "accuracy": {"MATS-GPT2": 0.56, "MATS-LLaMA": 0.66, "MATS-Audio†": 0.67},
        "binary_accuracy": {"MATS-GPT2": 0.66, "MATS-LLaMA": 0.76, "MATS-Audio†": 0.76},
    },
    note="Others score the raw rows, or questions all annotators agree on: other denominators, whose "
    "numbers and files are not taken here.",
)
