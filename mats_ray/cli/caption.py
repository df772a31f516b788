"""``mats caption``: caption or question every audio file of a folder or bucket."""

import argparse
import logging
from contextlib import AbstractContextManager

from mats_ray.cli.args import add_config_arguments
from mats_ray.config import load_config
from mats_ray.config.base import StrictConfig, assemble
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.generation import GenerationConfig
from mats_ray.errors import ConfigError

logger = logging.getLogger(__name__)

EPILOG = """\
Examples:
  mats caption --model out/demo/model --audio clips/ --out out/captions
  mats caption --model out/demo/model --audio s3://bucket/clips --out s3://bucket/answers \\
      --ask "Is there a dog?" --ask "How many sounds are there?"
  mats caption --model out/demo/model --audio files.csv --out out/labels --labels labels.txt
  mats caption --model out/demo/model --audio radio/ --out out/radio --window 30 --hop 15 --format jsonl
  mats caption --model out/demo/model --audio clips/ --out out/captions --retry too_long \\
      --set caption.max_seconds=90000

One row per file and question (with --window, one per window of it) goes to OUT as Parquet or JSONL; a
file that cannot be used becomes a row with status "error", a code and words. Run it again after a crash:
it does what is missing, and nothing if nothing is. More errors than caption.max_error_fraction
(0.1; --set caption.max_error_fraction=1 lets all pass) end it with exit code 1, all rows written.
"""


_SHORTCUTS = (
    ("window", "clap|SECONDS", "a row per window of this length; clap: of CLAP's own"),
    ("hop", "SECONDS", "from the start of one window to the next (default: no overlap, no gap)"),
    ("pool", "mean", "one row per file all the same, from the mean over its windows"),
    ("format", "parquet|jsonl|lance", "of the rows (default: parquet)"),
)
"""Options that are short for a key of the section ``caption``: name, metavar, help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--audio",
        required=True,
        metavar="PATH",
        help="folder, file, s3:// or gs:// prefix, or a manifest: .parquet, .csv or .jsonl with a column "
        '"path", and "question" where rows have one',
    )
    parser.add_argument("--out", required=True, metavar="PATH", help="folder or s3:// prefix of the rows")
    parser.add_argument(
        "--model", metavar="DIR", help="model directory (default: where the configured run writes its model)"
    )
    parser.add_argument(
        "--ask",
        action="append",
        default=[],
        metavar="QUESTION",
        dest="questions",
        help="ask this of every file instead of captioning it; repeatable",
    )
    parser.add_argument(
        "--caption",
        action="store_true",
        dest="always_caption",
        help="caption every file, too, where there are questions or labels",
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="say which of these labels, one a line, fits every file best"
    )
    for name, metavar, text in _SHORTCUTS:
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    parser.add_argument(
        "--retry", action="append", default=[], metavar="CODE",
        help="compute rows with this error again (read_failed and changed always are); repeatable",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="say what is to be done; touch nothing")
    add_config_arguments(parser, required=False, example="caption.batch_size=64")


def run(args: argparse.Namespace) -> int:
    """Write the rows and print what they are.

    Raises:
        MATSError: Model, audio or output cannot be used, or too many files could not.
    """
    args.overrides = [*args.overrides, *_shortcuts(args)]
    sections, model = _sections(args)
    if model is None:
        raise ConfigError("name the model directory with --model, or the run that wrote it with --config")
    logger.info("listing %s for the model %s", args.audio, model)  # at once: the imports take seconds
    from mats_ray.infer.classification import read_labels

    wanted = {
        "audio": args.audio,
        "out": args.out,
        "model": model,
        "questions": args.questions,
        "labels": read_labels(args.labels) if args.labels else (),
    }
    if args.dry_run:
        from mats_ray.caption.job import CaptionJob

        print(CaptionJob(sections.caption, sections.generation, **wanted, create=False).forecast())
    else:
        from mats_ray.caption.on_ray import caption

        print(caption(sections.caption, sections.generation, **wanted, cluster=start_ray))
    return 0


def start_ray() -> AbstractContextManager[None]:
    """Join or start a cluster when a job has work for it: the import alone takes seconds."""
    logger.info("starting Ray")
    from mats_ray.cli.on_ray import cluster

    return cluster()


def _shortcuts(args: argparse.Namespace) -> list[str]:
    given = {name: getattr(args, name) for name, _, _ in _SHORTCUTS}
    given |= {"always_caption": True if args.always_caption else None}
    given |= {"retry": f"[{', '.join(args.retry)}]" if args.retry else None}
    return [f"caption.{name}={value}" for name, value in given.items() if value is not None]


class _Sections(StrictConfig):
    """The sections that the job uses."""

    caption: CaptionConfig = CaptionConfig()
    generation: GenerationConfig | None = None


def _sections(args: argparse.Namespace) -> tuple[_Sections, str | None]:
    """Load the sections and the path of the model directory; with ``--model`` no configuration is needed."""
    if not args.config:
        return assemble(_Sections, {}, args.overrides), args.model
    run = load_config(args.config, args.overrides)
    return _Sections(caption=run.caption, generation=run.generation_override), args.model or run.model_dir
