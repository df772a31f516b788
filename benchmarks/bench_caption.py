"""Captioning many files against doing it one at a time, both sides in one run.

    python -m benchmarks.bench_caption santa                                  # seconds
    python -m benchmarks.bench_caption files --audio ../shared/data/esc10 --model out/demo/model

``santa``: the transfer of a batch against a loop over rows and clusters. ``files``: decode, CLAP, beam-4
generation by the same pipeline, one file at a time against the stages of the batch job in one process,
without Ray; other text is a failure. Upstream's way against the whole job is in ``bench_pipeline``, decoding
against ffmpeg in ``bench_decode``.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch


def seconds_of(action: Callable[[], Any], *, repeats: int = 3) -> tuple[float, Any]:
    """Time an action, the best of some; on one thread by the CPU time of the process."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    best, result = float("inf"), None
    for _ in range(repeats):
        started = clock()
        result = action()
        best = min(best, clock() - started)
    return best, result


def santa(_: argparse.Namespace) -> None:
    """Memory of 5,172 x 1,024, K=100, L=32, batch 256."""
    from mats_ray.models.santa import SantaMemory

    draw = torch.Generator().manual_seed(0)
    memory = SantaMemory.build(torch.randn(5_172, 1_024, generator=draw), num_clusters=100)
    audio_BC = torch.nn.functional.normalize(torch.randn(256, 1_024, generator=draw), dim=-1)
    batched, together = seconds_of(lambda: memory.transfer(audio_BC), repeats=10)
    looped, alone = seconds_of(lambda: torch.stack([_by_loop(memory, row) for row in audio_BC]))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    print(f"santa: batch {batched * 1e3:.1f} ms, loop {looped * 1e3:.0f} ms, {looped / batched:.0f} x")


def _by_loop(memory: Any, audio_C: torch.Tensor) -> torch.Tensor:
    """Transfer one row as one would write it first: look at every cluster, then at its members."""
    distances = [(audio_C - centroid_C).square().sum().item() for centroid_C in memory.centroids_KC]
    nearest = int(np.argmin(distances))
    members = memory.embeddings_NC[memory.offsets_K1[nearest] : memory.offsets_K1[nearest + 1]]
    similarity = torch.stack([member_C @ audio_C for member_C in members])
    best = similarity.topk(min(32, len(members)))
    weight = torch.softmax(best.values / 0.1, dim=0)
    return torch.nn.functional.normalize(0.7 * audio_C + 0.3 * (weight @ members[best.indices]), dim=-1)


def files(args: argparse.Namespace) -> None:
    """The stages of the job without Ray: what batching alone gives."""
    from mats_ray.caption.answer import AnswerStage
    from mats_ray.caption.job import CaptionJob
    from mats_ray.caption.prompts import CAPTION
    from mats_ray.config.caption import CaptionConfig
    from mats_ray.config.generation import GenerationConfig
    from mats_ray.data.audio import read_audio
    from mats_ray.infer.answerer import Answerer
    from mats_ray.infer.encoder import AudioEncoder

    settings, paper = CaptionConfig(batch_size=args.batch_size), GenerationConfig(profile="paper")
    with tempfile.TemporaryDirectory() as out:
        job = CaptionJob(settings, paper, audio=args.audio, out=out, model=args.model)
        with job:
            num_batches = max(1, args.files // args.batch_size)
            listed = list(itertools.islice(job.batches(), num_batches))
    paths = [path for table in listed for path in table.column("path").to_pylist()]
    encoder, answerer = (one.from_pretrained(args.model) for one in (AudioEncoder, Answerer))
    answer_stage = AnswerStage(job.answer_settings)
    torch.set_num_threads(args.threads)
    generation = job.provenance.generation

    def one_by_one() -> list[str]:
        captions = list[str]()
        for path in paths:
            embedding = encoder.encode([read_audio(path)])
            (answer,) = answerer.answer(embedding, [CAPTION.instruction], generation=generation)
            captions.append(answer.text)
        return captions

    def in_batches() -> list[str]:
        rows = pa.concat_tables(answer_stage(batch) for table in listed for batch in job.decode_stage(table))
        return rows.column("caption").to_pylist()

    def decoding() -> int:
        return sum(len(batch) for table in listed for batch in job.decode_stage(table))

    alone, expected = seconds_of(one_by_one, repeats=1)
    batched, found = seconds_of(in_batches, repeats=1)
    share, _ = seconds_of(decoding, repeats=1)
    assert found == expected, "batching changed words"
    print(
        f"files: {len(paths)}, one by one {len(paths) / alone:.1f}/s, in batches of {args.batch_size} "
        f"{len(paths) / batched:.1f}/s, {alone / batched:.1f} x, same text; "
        f"decoding {share / batched:.0%} of it"
    )


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=("santa", "files"))
    parser.add_argument("--audio", default="../shared/data/esc10")
    parser.add_argument("--model", default="out/demo/model")
    parser.add_argument("--files", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    {"santa": santa, "files": files}[args.part](args)


if __name__ == "__main__":
    main()
