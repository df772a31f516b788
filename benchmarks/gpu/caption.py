"""The caption job on the card: its stages in one process, the whole job where there is Ray, one at a time.

The peer does what upstream does: decode a file, CLAP, Santa, transformers' ``generate``, the next file. On
both sides models are loaded before, except for the job on Ray, whose whole time is that of a caller.
"""

import importlib.util
import itertools
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.gpu.parts import Outcome
from benchmarks.gpu.sizes import Size
from benchmarks.gpu.stand_in import model_directory, sound_files, sounds_folder
from mats_ray.caption.answer import AnswerStage
from mats_ray.caption.job import CaptionJob
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.generation import PROFILES, GenerationConfig
from mats_ray.data.audio import read_audio
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.models.directory import load_model, read_info
from mats_ray.models.splice import pad_left
from mats_ray.tasks import Task, instruction_for


def run(size: Size, device: str, outcome: Outcome) -> None:
    model = model_directory(size, device)
    sounds = sounds_folder(size)
    paths = sound_files(sounds, size.clips, size.clip_seconds)
    figures = outcome.figures
    alone, expected = one_at_a_time(paths[: size.peer_clips], model, size, device)
    _add(outcome, "one at a time, transformers' generate", size.peer_clips, alone)
    _empty(device)
    rate, found = stages(sounds, model, size, device)
    equal = sum(found[name] == caption for name, caption in expected.items()) / len(expected)
    figures |= {"clips_per_s": rate, "over_one_at_a_time": rate / alone, "equal_captions": equal}
    figures["different_captions"] = len(set(expected.values()))
    if device == "cpu" and equal < 1:
        outcome.failures.append(f"only {equal:.0%} of the captions are those of one at a time")
    _add(outcome, "the job's stages in one process", size.clips, rate)
    if importlib.util.find_spec("ray") is None:
        outcome.notes.append("Ray is not installed: the job on Ray is left out")
        return
    _empty(device)
    figures["ray_clips_per_s_with_start"] = size.clips / on_ray(sounds, model, size, device)
    _add(outcome, "the job on Ray, start included", size.clips, figures["ray_clips_per_s_with_start"])


def _add(outcome: Outcome, way: str, clips: int, rate: float) -> None:
    outcome.add("Captions, greedy", {"way": way, "clips": clips, "clips_per_s": rate})


@torch.inference_mode()
def one_at_a_time(paths: list[Path], model: Path, size: Size, device: str) -> tuple[float, dict[str, str]]:
    """Caption files as upstream does; files a second, and captions by name."""
    info = read_info(model)
    encoder, mover = AudioEncoder.from_info(info, device=device), Answerer.from_info(info, device=device)
    mats, prompts = load_model(info)  # the adapter beside the weights
    mats = mats.to(device)
    after, captions, started = prompts.after(instruction_for(Task.CAPTION)), dict[str, str](), 0.0
    for number, path in enumerate([paths[0], *paths]):
        if number == 1:  # the first has warmed everything up
            started = time.perf_counter()
        moved = mover.move(encoder.encode([read_audio(path)]))
        prompt = pad_left(mats.prompt(moved, [after]))
        settings = PROFILES["fast"].as_kwargs()
        (answer,) = mats.generate_by_transformers(prompt, max_new_tokens=size.new_tokens, **settings)
        captions[path.name] = prompts.decode(answer.ids)
    return len(paths) / (time.perf_counter() - started), captions


def stages(sounds: Path, model: Path, size: Size, device: str) -> tuple[float, dict[str, str]]:
    """Decode on one thread, encode and answer on another; files a second, and captions by name."""
    greedy = GenerationConfig(profile="fast", max_new_tokens=size.new_tokens)
    settings = CaptionConfig(batch_size=size.places, gpus_per_actor=float(device == "cuda"))
    with tempfile.TemporaryDirectory() as out:
        job = CaptionJob(settings, greedy, audio=str(sounds), out=out, model=str(model))
        with job:
            listed = list(job.batches())
    answer = AnswerStage(job.answer_settings)
    first = next(iter(job.decode_stage(listed[0])))
    answer(first)  # warm
    started = time.perf_counter()
    decoded = _ahead(itertools.chain.from_iterable(map(job.decode_stage, listed)))
    rows = pa.concat_tables([answer(batch) for batch in decoded]).to_pylist()
    seconds = time.perf_counter() - started
    assert len(rows) == size.clips, f"{len(rows)} rows of {size.clips} clips"
    return len(rows) / seconds, {Path(row["path"]).name: row["caption"] for row in rows}


def on_ray(sounds: Path, model: Path, size: Size, device: str) -> float:
    """Seconds of the whole job, from its call to its end."""
    import ray

    from mats_ray.caption.on_ray import caption

    greedy = GenerationConfig(profile="fast", max_new_tokens=size.new_tokens)
    settings = CaptionConfig(batch_size=size.places, gpus_per_actor=float(device == "cuda"))
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=6, **quiet)
    try:
        with tempfile.TemporaryDirectory() as out:
            started = time.perf_counter()
            caption(settings, greedy, audio=str(sounds), out=out, model=str(model))
            seconds = time.perf_counter() - started
            rows = pq.read_table(out).to_pylist()
    finally:
        ray.shutdown()
    assert [row["status"] for row in rows] == ["ok"] * size.clips
    return seconds


def _ahead(batches: Iterator[pa.Table], *, depth: int = 2) -> Iterator[pa.Table]:
    """Read ahead on a thread."""
    ready: queue.Queue = queue.Queue(depth)

    def fill() -> None:
        try:
            for batch in batches:
                ready.put(batch)
            ready.put(None)
        except BaseException as error:  # noqa: BLE001  raised where the batch would have come
            ready.put(error)

    threading.Thread(target=fill, daemon=True).start()
    while (batch := ready.get()) is not None:
        if isinstance(batch, BaseException):
            raise batch
        yield batch


def _empty(device: str) -> None:
    import gc

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
