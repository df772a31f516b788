"""A rehearsal: stand-ins and rows, then prepare to evaluate by the shipped entries, then the table.

The entries (``jobs/*.py``, ``serve/config.yaml``) are those of a checkout of the repository.
"""

import multiprocessing
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from mats_ray.config import RunConfig
from mats_ray.config.run import load_config
from mats_ray.errors import ConfigError, RehearsalError
from mats_ray.rehearsal.changes import Change, Inputs, Machine, changes_for, overlay
from mats_ray.rehearsal.commands import QUESTION, ask_command, evaluate_command, flags_of, job_command
from mats_ray.rehearsal.comparison import ASK, Comparison, compare, compare_asking
from mats_ray.rehearsal.llm_stand_in import published, write_llm
from mats_ray.rehearsal.msclap_stand_in import FILE, write_msclap
from mats_ray.rehearsal.pe_audio_stand_in import SIZES, write_pe_audio
from mats_ray.rehearsal.rows import Rows, write_rows
from mats_ray.rehearsal.service import ask_service, serve_config
from mats_ray.rehearsal.stages import StageResult, StageRunner
from mats_ray.rehearsal.tokenizer_stand_ins import write_gpt2_tokenizer
from mats_ray.rehearsal.untrained import write_untrained
from mats_ray.train.checkpoints import open_store

ZERO_STEPS = 2
_DONE, _CHANGES = "written", "changes.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of a configuration is rehearsed."""

    num_layers: int | None = None
    """Layers of the language model's stand-in; None: as published."""
    num_steps: int = 4
    """Training steps, at least 2: the first checkpoint comes halfway."""
    untrained: bool = False
    """Only load the model as it is before its first step, and ask it once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a rehearsal found."""

    changes: Sequence[Change]
    stages: Sequence[StageResult]
    """Those that ended, in their order."""
    comparisons: Sequence[Comparison]
    """Empty where a stage failed."""
    failure: str | None = None
    """Why a stage failed, in one line; the stages behind it did not run."""


def rehearse(
    configs: Sequence[str],
    overrides: Sequence[str],
    *,
    size: Size,
    out: Path,
    announce: Callable[[str], None],
) -> Rehearsal:
    """Rehearse a configuration.

    Args:
        configs: Its files.
        overrides: ``key=value`` changes of the user's own.
        size: How much of it.
        out: Folder; stand-ins that are there already are used again, all else is replaced.
        announce: Called with each line about what is done.

    Raises:
        ConfigError: The configuration is not valid, has no stand-in, or there is no checkout here.
    """
    _check_checkout()
    shipped, folder = load_config(configs, overrides), out.resolve()
    rows = write_rows(folder / "rows")
    inputs = _stand_ins(shipped, folder, rows, num_layers=size.num_layers, announce=announce)
    forced = changes_for(shipped, Machine.this(), inputs, num_steps=size.num_steps)
    changes = [*_layers(shipped, size.num_layers), *forced]
    for change in changes:
        announce(f"changed: {change}")
    shutil.rmtree(folder / "run", ignore_errors=True)
    (folder / _CHANGES).write_text(yaml.safe_dump(overlay(forced), sort_keys=False), "utf-8")
    files = [*configs, str(folder / _CHANGES)]
    config, runner = load_config(files, overrides), StageRunner(folder / "logs", announce)
    flags = flags_of(files, overrides)
    try:
        comparisons = _run_stages(runner, config, flags, rows, folder, untrained=size.untrained)
    except RehearsalError as error:
        return Rehearsal(changes=changes, stages=runner.results, comparisons=(), failure=str(error))
    return Rehearsal(changes=changes, stages=runner.results, comparisons=comparisons)


def _run_stages(
    runner: StageRunner, config: RunConfig, flags: Sequence[str], rows: Rows, folder: Path, *, untrained: bool
) -> Sequence[Comparison]:
    if untrained:
        write_untrained(config, rows.texts)
        runner.run(ASK, ask_command(config, rows))
        return compare_asking(config, runner.results)
    _train_stages(runner, config, flags)
    _answer_stages(runner, config, flags, rows, folder)
    return compare(config, runner.results)


def _layers(config: RunConfig, num_layers: int | None) -> list[Change]:
    if num_layers is None:
        return []
    model = published(config.llm_path)
    return [Change("layers of the language model", model.config[model.layers_key], num_layers, "--scale")]


def _check_checkout() -> None:
    for path in ("jobs/train.py", "serve/config.yaml"):
        if not Path(path).is_file():
            raise ConfigError(
                f"no {path} here: `mats rehearse` runs in the root of a checkout of the repository"
            )


def _stand_ins(
    config: RunConfig, folder: Path, rows: Rows, *, num_layers: int | None, announce: Callable[[str], None]
) -> Inputs:
    """Write the stand-ins that are not there yet; a note in each folder says that it is complete."""
    published(config.llm_path)
    clap, tokenizer = _clap_stand_in(config.clap_ref, folder / "stand_ins", rows, announce)
    llm = folder / "stand_ins" / f"{config.llm_path.rsplit('/', 1)[-1]}-{num_layers or 'all'}-layers"
    _once(llm, partial(write_llm, config.llm_path, llm, rows.texts, num_layers=num_layers), announce)
    return Inputs(
        clap=str(clap),
        clap_tokenizer=None if tokenizer is None else str(tokenizer),
        llm=str(llm),
        sources=rows.sources,
        output_dir=str(folder / "run"),
    )


def _clap_stand_in(
    ref: str, folder: Path, rows: Rows, announce: Callable[[str], None]
) -> tuple[Path, Path | None]:
    """Return a stand-in for a CLAP, and its tokenizer where that is no part of it."""
    if ref in SIZES:
        clap = folder / ref.rsplit("/", 1)[-1]
        _once(clap, partial(write_pe_audio, ref, clap, rows.texts), announce)
        return clap, None
    if Path(ref).name != FILE:
        raise ConfigError(
            f"there is no stand-in for model.clap.ref={ref}; there are some for {', '.join([FILE, *SIZES])}"
        )
    clap, tokenizer = folder / "msclap", folder / "gpt2_tokenizer"
    _once(clap, partial(write_msclap, clap), announce)
    _once(tokenizer, partial(write_gpt2_tokenizer, tokenizer, rows.texts), announce)
    return clap / FILE, tokenizer


def _once(folder: Path, write: Callable[[], object], announce: Callable[[str], None]) -> None:
    """Write a stand-in in a process of its own: what it needed would be missing in the stages."""
    if not (folder / _DONE).is_file():
        announce(f"writing the stand-in {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            process.submit(write).result()
        (folder / _DONE).touch()


def _train_stages(runner: StageRunner, config: RunConfig, flags: Sequence[str]) -> None:
    """Prepare, embed, build the memory, train, kill, resume; then each ZeRO stage from its start."""
    runs = Path(config.runs_dir)
    runner.run("prepare", job_command("prepare", *flags, "--report"), wrote=[Path(config.triplets_path)])
    runner.run("embed", job_command("embed", *flags), wrote=[Path(config.embedded_path)])
    runner.run("memory", job_command("memory", *flags), wrote=[Path(config.memory_path)])
    store = open_store(config)
    runner.kill(
        "train until killed", job_command("train", *flags), lambda: bool(store.committed()), wrote=[runs]
    )
    runner.run("train resumed", job_command("train", *flags), wrote=[runs, Path(config.model_dir)])
    for stage in range(4):
        changed = {
            "name": f"zero{stage}",
            "train.engine.zero_stage": stage,
            "train.num_steps": ZERO_STEPS,
            "output_dir": f"{config.output_dir}/zero{stage}",
            "data.embedded": config.embedded_path,
            "memory.path": config.memory_path,
        }
        sets = flags_of([], [f"{key}={value}" for key, value in changed.items()])
        runner.run(
            f"train ZeRO {stage}",
            job_command("train", *flags, *sets),
            wrote=[Path(f"{config.output_dir}/zero{stage}")],
        )


def _answer_stages(
    runner: StageRunner, config: RunConfig, flags: Sequence[str], rows: Rows, folder: Path
) -> None:
    """Caption, serve and ask over HTTP, ask on the command line, evaluate."""
    model, out = config.model_dir, Path(config.output_dir)
    paths = ["--model", model, "--audio", str(rows.audio), "--out", str(out / "captions")]
    runner.run("caption", job_command("caption", *paths, *flags), wrote=[out / "captions"])
    service = serve_config(
        Path("serve/config.yaml"), folder / "serve.yaml", model=model, rehearsed=config.serve
    )
    program = str(Path(sys.executable).with_name("serve"))
    with runner.process("serve", [program, "run", str(service.path)]) as process:
        ask_service(service.url, rows.clip, QUESTION, alive=lambda: process.poll() is None)
    runner.run(ASK, ask_command(config, rows))
    runner.run("evaluate", evaluate_command(config, rows), wrote=[out / "evaluation"])
