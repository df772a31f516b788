"""MusicQA, the part for evaluation: questions about clips of MTG-Jamendo, answered by a language model."""

from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.answers import text_overlap
from mats_ray.evaluate.readers.questions import read_musicqa

BENCHMARK = Benchmark(
    name="musicqa",
    title="MusicQA",
    paper="Liu et al., 2024, ICASSP",
    license="unknown",
    source="github.com/shansongliu/MU-LLaMA, huggingface.co/datasets/mu-llama/MusicQA: EvalMusicQA.json",
    files=(r"EvalMusicQA\.json",),
    other_files=(r"(Pretrain|Finetune)MusicQA\.json",),
    split="evaluation",
    size=5_040,
    read=read_musicqa,
    upstream_prefix="[open ended]",
    score=text_overlap,
    note="Not in the paper; MU-LLaMA's numbers are of other kinds under the same names, and the reference "
    "answers a model's, whose wording overlap rewards.",
)
