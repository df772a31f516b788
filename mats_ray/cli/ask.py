"""``mats ask``: one file, one question, one answer."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("audio", metavar="FILE", help="audio file")
    parser.add_argument("question", nargs="?", help="without one the file is described")
    parser.add_argument("--model", required=True, metavar="DIR", help="model directory")
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Answer on stdout.

    Raises:
        MATSError: The file or the model cannot be used.
    """
    from mats_ray.data.audio import read_audio
    from mats_ray.infer.pipeline import MATSPipeline

    clip = read_audio(args.audio)
    pipeline = MATSPipeline.from_pretrained(args.model, device=args.device)
    answer = pipeline.ask(clip, args.question) if args.question else pipeline.caption(clip)
    print(answer.text)
    return 0
