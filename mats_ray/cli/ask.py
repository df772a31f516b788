"""``mats ask``: one file, one question, one answer."""

import argparse
from pathlib import Path

from mats_ray.errors import AudioError, ConfigError
from mats_ray.tasks import NO_CLIP, several_clips


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("audio", metavar="FILE", help="audio file")
    parser.add_argument("question", nargs="?", help="without one the file is described")
    parser.add_argument("more", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--model", required=True, metavar="DIR", help="model directory")
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Answer on stdout.

    Raises:
        MATSError: The question, the file, the model or the device cannot be used.
    """
    _check_arguments(args)
    from mats_ray.data.audio import read_audio
    from mats_ray.infer.pipeline import MATSPipeline
    from mats_ray.models.directory import read_info
    from mats_ray.models.stand_in import warn_of_stand_ins

    try:
        clip = read_audio(args.audio)
    except AudioError as error:
        if error.code == "not_found" and args.question is None:  # perhaps it is the question
            raise AudioError(f"{error}; {NO_CLIP}", code=error.code) from None
        raise
    _check_device(args.device)
    info = read_info(args.model)
    warn_of_stand_ins(args.model, info.stand_ins)
    pipeline = MATSPipeline.from_info(info, device=args.device)
    answer = pipeline.ask(clip, args.question) if args.question else pipeline.caption(clip)
    print(answer.text)
    return 0


def _check_arguments(args: argparse.Namespace) -> None:
    """Refuse several clips, and a question that the shell has split or that is empty."""
    if args.question is None:
        return
    if not args.question.strip():
        raise ConfigError("the question is empty; leave it out to have the file described")
    behind = [args.question, *args.more]
    if num_more := sum(_is_file(one) for one in behind):
        raise ConfigError(several_clips(1 + num_more))
    if args.more:
        raise ConfigError(f'a question is one argument; put it between quotes: "{" ".join(behind)}"')


def _is_file(argument: str) -> bool:
    try:
        return Path(argument).is_file()
    except (OSError, ValueError):  # a question may be longer than a file name can be, and hold NUL
        return False


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # which of them depends on how torch was built
        raise ConfigError(f"--device {device} cannot be used: {str(error).splitlines()[0]}") from error
