"""Rows per second and peak memory of prepare -> embed -> noise -> batches at several sizes, and what is read.

    python benchmarks/bench_rows.py                              # 50 k and 500 k rows, some minutes
    python benchmarks/bench_rows.py --rows 500000 5000000 10000000 --work DIR [--stages prepare]
    python benchmarks/bench_rows.py --rows 500000 --work DIR --stages reads --workers 1 2 8 64

The set is generated, its annotations in OpenAQA's raw format: five questions and one caption per clip, so a
fifth as many distinct texts as rows. CLAP is tiny and untrained, of the toy world's shape: what is measured
is everything around it. Every stage is a process of its own with its own local Ray; memory is the sum over
all its processes, shared pages counted once, and so are CPU seconds. Stages can be run one at a time: results
gather in the work folder.

`copy` takes the embedded files of the first size as often as needed in place of `generate` to `embed`, for a
stream longer than there is time to embed: --rows 500000 10000000 --stages copy stream.

`reads` counts, without Ray, the bytes that workers read of the first 100,000 samples: each for itself, and
all of them through one reader, as they do when they train.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pyarrow as pa

ROWS_PER_FILE, QUESTIONS = 250_000, 5
STAGES = ("generate", "prepare", "embed", "stream", "reads")
COPY = "copy"
SAMPLE_SECONDS, MEMORY_SAMPLE_SECONDS = 2.0, 5.0
READ_SAMPLES = 100_000
WORDS = (
    "small large old new red loud quiet distant close steady sudden heavy light metal wooden "
    "plastic glass wet dry",
    "dog cat bird engine siren bell drum guitar door car train plane clock phone kettle saw "
    "hammer baby crowd horse",
    "rings barks sings hums roars clicks taps rattles squeaks whistles beats knocks passes "
    "rolls drips crackles",
    "slowly quickly twice again softly loudly nearby outside inside far_away at_night in_rain on_gravel",
    "while_people_talk before_it_stops after_a_pause over_music under_wind near_water in_a_hall on_a_street",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen",
)
QUESTION_TEXTS = (
    "What can be heard?",
    "Where might this be?",
    "Is it loud?",
    "What happens first?",
    "How does it end?",
)


def caption(number: int) -> str:
    """Spell a number as a caption of its own."""
    words = []
    for choices in (one.split() for one in WORDS):
        number, digit = divmod(number, len(choices))
        words.append(choices[digit].replace("_", " "))
    return f"A {words[0]} {words[1]} {words[2]} {words[3]} {words[4]}, take {words[5]} {number}"


def generate(work: Path, rows: int) -> None:
    """Write the raw files, and a tiny CLAP whose tokenizer was trained on the words."""
    import torch
    from transformers import ClapModel

    from mats_ray.config.toy import ToyConfig
    from mats_ray.toy.clap import clap_config, feature_extractor
    from mats_ray.toy.tokenizer import train_tokenizer

    raw = work / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    clips_per_file = ROWS_PER_FILE // QUESTIONS
    for file in range(-(-rows // ROWS_PER_FILE)):
        with (raw / f"open_{file:03d}.json").open("w") as sink:
            sink.write("[")
            for clip in range(file * clips_per_file, min((file + 1) * clips_per_file, rows // QUESTIONS)):
                sink.write(
                    ",\n".join(items(clip)) if clip % clips_per_file == 0 else ",\n" + ",\n".join(items(clip))
                )
            sink.write("]")
    tokenizer = train_tokenizer((caption(n * 7919) for n in range(20_000)), vocab_size=500)
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        clap = ClapModel(clap_config(tokenizer, dim=64))
    for part in (clap, tokenizer, feature_extractor(ToyConfig())):
        part.save_pretrained(work / "clap")


def items(clip: int) -> list[str]:
    """Rows of one clip, as OpenAQA has them."""
    text = caption(clip)
    base = {"input": "", "audio_id": f"clips/{clip:08d}.flac", "dataset": "as_20k"}
    rows = [
        {**base, "instruction": "Write a caption.", "task": "caption", "output": f"Audio caption: {text}"}
    ]
    rows += [
        {
            **base,
            "instruction": question,
            "task": "open-ended question",
            "output": f"{text.split(',')[0]} ({n}).",
        }
        for n, question in enumerate(QUESTION_TEXTS)
    ]
    return [json.dumps(row) for row in rows]


def copy_embedded(first: Path, work: Path, times: int) -> None:
    """Write the embedded files of another size ``times`` times, each under a name of its own."""
    from mats_ray.data.embedded import part_name

    source, target = (Path(config_of(one).embedded_path) for one in (first, work))
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    files = sorted(source.glob("*.parquet"))
    for number in range(times * len(files)):
        shutil.copy(files[number % len(files)], target / part_name(number))


def config_of(work: Path):
    """Configure a run of two logical workers on the generated set."""
    from mats_ray.config import RunConfig

    files = sorted(str(path) for path in (work / "raw").glob("*.json"))
    return RunConfig.model_validate(
        {
            "output_dir": str(work / "out"),
            "model": {"clap": {"ref": str(work / "clap"), "dim": 64}, "llm": {"path": "none"}},
            "data": {
                "embed": {"concurrency": 2},
                "prepare": {"sources": [{"source": "openaqa", "path": p, "split": "train"} for p in files]},
            },
            "train": {"global_batch_size": 125, "micro_batch_size": 125},  # of which any size is a multiple
        }
    )


def stream(config, rows: int) -> int:
    """Read one epoch as one training worker does, up to the arrays and strings of each batch."""
    from mats_ray.data.embedded import inspect
    from mats_ray.data.on_ray import StreamPlace, training_rows
    from mats_ray.data.triplets import EMBEDDING, embedding_matrix

    place, seen = StreamPlace(0, rows, 0, 1), 0
    for table in training_rows(config, inspect(config.embedded_path), place):
        embeddings_BC = embedding_matrix(table.column(EMBEDDING))
        instructions, answers = table.column("instruction").to_pylist(), table.column("answer").to_pylist()
        assert len(embeddings_BC) == len(instructions) == len(answers)
        seen += len(table)
    return seen


class CPUSeconds:
    """Context manager; ``total`` is the CPU time of this process and of all it started, sampled.

    On a machine that others use, too, it says more than the time that passed.
    """

    def __init__(self) -> None:
        self.total, self._of, self._stop = 0.0, dict[int, float](), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "CPUSeconds":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.total = sum(self._of.values())

    def _watch(self) -> None:
        me, stopped = psutil.Process(), False
        while not stopped:
            stopped = self._stop.wait(SAMPLE_SECONDS)
            for process in [me, *me.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    used = process.cpu_times()
                    self._of[process.pid] = used.user + used.system


class CountedFile(io.RawIOBase):
    """A local file that counts the bytes read of all such files."""

    total = 0

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115

    def readable(self) -> bool:
        """See ``io``."""
        return True

    def seekable(self) -> bool:
        """See ``io``."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """See ``io``."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """See ``io``."""
        return self._file.tell()

    def readinto(self, buffer, /) -> int:
        """See ``io``."""
        count = self._file.readinto(buffer)
        CountedFile.total += count
        return count

    def close(self) -> None:
        """See ``io``."""
        self._file.close()
        super().close()


def count_reads(config, rows: int, counts: list[int]) -> dict[str, float]:
    """Return the bytes that workers read over those of the rows they train on, alone and together."""
    from mats_ray.data import embedded
    from mats_ray.data.shared_spans import SharedSpans
    from mats_ray.data.stream import SpanReader, StreamPlace, spans_of

    embedded.open_input = lambda path: pa.PythonFile(CountedFile(path), mode="r")
    size = sum(path.stat().st_size for path in Path(config.embedded_path).rglob("*.parquet"))
    config = config.replace(train={"global_batch_size": max(counts) * 2, "micro_batch_size": 2})
    stop = min(rows, READ_SAMPLES) // config.train.global_batch_size * config.train.global_batch_size
    data, found = embedded.inspect(config.embedded_path), {}

    def share_read(num_workers: int, groups: list[list[int]]) -> float:
        CountedFile.total, plan = 0, spans_of(config, StreamPlace(0, stop, 0, num_workers))
        for ranks in groups:
            shared = SharedSpans(SpanReader(config, data, StreamPlace(0, stop, 0, num_workers)), ranks)

            def take(rank: int, shared=shared) -> int:
                return sum(len(shared.take(index, rank)) for index in range(len(plan)))

            with ThreadPoolExecutor(len(ranks)) as pool:
                assert sum(pool.map(take, ranks)) == stop // num_workers * len(ranks)
        return CountedFile.total / (size * stop / rows)

    for count in counts:
        found[f"{count} alone"] = share_read(count, [[rank] for rank in range(count)])
        found[f"{count} together"] = share_read(count, [list(range(count))])
    return found


def run_stage(stage: str, work: Path, rows: int, workers: list[int]) -> dict[str, float]:
    """Carry out one stage in this process and measure it."""
    from mats_ray.cli.on_ray import cluster
    from mats_ray.data.embedding.on_ray import embed
    from mats_ray.data.prepare.on_ray import prepare
    from mats_ray.process_memory import ProcessMemory

    if stage == "generate":
        generate(work, rows)
        return {}
    config, found = config_of(work), {}
    if stage == "reads":
        return count_reads(config, rows, workers)
    with CPUSeconds() as cpu, ProcessMemory(os.getpid(), interval=MEMORY_SAMPLE_SECONDS) as peak, cluster():
        started = time.monotonic()
        if stage == "prepare":
            done = prepare(config).total.written
        elif stage == "embed":
            summary = embed(config)
            done, found = summary.num_rows, {"texts": summary.num_texts, "encoded": summary.num_encoded}
        else:
            done = stream(config, rows)
        seconds = time.monotonic() - started
    assert done == rows, f"{stage}: {done} rows of {rows}"
    return {
        "rows": done,
        "seconds": seconds,
        "rows_per_s": done / seconds,
        "peak_gb": peak.total_gb,
        "cpu_s": cpu.total,
        "load": os.getloadavg()[1],
        **found,
    }


def main() -> None:
    """Run the chosen stages at every size, then print what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 500_000])
    parser.add_argument("--stages", nargs="+", choices=[*STAGES, COPY], default=list(STAGES))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--work", type=Path, default=Path("build/bench_rows"))
    parser.add_argument("--one", nargs=2, metavar=("STAGE", "ROWS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        stage, rows = args.one[0], int(args.one[1])
        work = args.work.absolute() / str(rows)
        found = run_stage(stage, work, rows, args.workers)
        (work / f"{stage}.result.json").write_text(json.dumps(found))
        return
    for rows in args.rows:
        if COPY in args.stages and rows != args.rows[0]:
            first = args.rows[0]
            copy_embedded(args.work / str(first), args.work / str(rows), rows // first)
        for stage in (one for one in args.stages if one != COPY):
            command = [sys.executable, __file__, "--work", str(args.work), "--one", stage, str(rows)]
            subprocess.run([*command, "--workers", *map(str, args.workers)], check=True)
    report(args.work, args.rows)


def report(work: Path, sizes: list[int]) -> None:
    """Print a line per stage, each size beside the first."""
    for stage in STAGES[1:]:
        results = [work / str(rows) / f"{stage}.result.json" for rows in sizes]
        found = [json.loads(path.read_text()) for path in results if path.exists()]
        if stage == "reads":
            for name, share in (pair for one in found for pair in one.items()):
                print(f"reads   {name:>12}: {share:.2f} x the bytes of the rows in the files")
            continue
        for one in found:
            rate, memory = one["rows_per_s"] / found[0]["rows_per_s"], one["peak_gb"] / found[0]["peak_gb"]
            print(
                f"{stage:<8}{one['rows']:>9} rows {one['seconds']:>7.1f} s {one['rows_per_s']:>8.0f} rows/s "
                f"(x {rate:.2f})  {one['rows'] / one['cpu_s']:>7.0f} rows/CPU s  "
                f"peak {one['peak_gb']:.2f} GB (x {memory:.2f})  load {one['load']:.1f}"
            )


if __name__ == "__main__":
    main()
