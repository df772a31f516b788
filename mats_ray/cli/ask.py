"""``mats ask``: one file, one question, one answer."""

import argparse
import logging

from mats_ray.errors import ConfigError

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("audio", metavar="FILE", help="audio file")
    parser.add_argument("question", nargs="?", help="without one the file is described")
    parser.add_argument("--model", required=True, metavar="DIR", help="model directory")
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Answer on stdout.

    Raises:
        MATSError: The question, the file, the model or the device cannot be used.
    """
    if args.question is not None and not args.question.strip():
        raise ConfigError("the question is empty; leave it out to have the file described")
    from mats_ray.data.audio import read_audio
    from mats_ray.infer.pipeline import MATSPipeline
    from mats_ray.models.directory import read_info

    clip = read_audio(args.audio)
    _check_device(args.device)
    if read_info(args.model).stand_ins:
        logger.warning("%s is of a rehearsal on stand-ins: its answers mean nothing", args.model)
    pipeline = MATSPipeline.from_pretrained(args.model, device=args.device)
    answer = pipeline.ask(clip, args.question) if args.question else pipeline.caption(clip)
    print(answer.text)
    return 0


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # which of them depends on how torch was built
        raise ConfigError(f"--device {device} cannot be used: {str(error).splitlines()[0]}") from error
