"""``mats convert``: published checkpoints to directories this package loads."""

import argparse
from pathlib import Path

EPILOG = """\
Examples:
  mats convert clap CLAP_weights_2023.pth models/msclap --tokenizer gpt2
  mats convert upstream mats_llama.pth models/mats --clap models/msclap --llm lmsys/vicuna-7b-v1.5

Files are read without running what is in them; every tensor that is unknown, missing or of another shape is
named and nothing is written. What became of each tensor stands in conversion.json.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the kinds of checkpoints and their arguments."""
    from mats_ray.config.model import LoRAConfig

    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    clap = kinds.add_parser("clap", help="LAION's .pt or MS-CLAP's .pth to safetensors")
    _add_paths(clap)
    clap.add_argument(
        "--tokenizer", metavar="REF", help="directory or hub id (default: the family's, if it can be had)"
    )
    upstream = kinds.add_parser("upstream", help="a released MATS checkpoint to a model directory")
    _add_paths(upstream)
    upstream.add_argument("--clap", required=True, metavar="REF", help="the CLAP it was trained with")
    upstream.add_argument("--clap-tokenizer", metavar="REF", help="directory or hub id (default: its own)")
    upstream.add_argument("--llm", required=True, metavar="PATH", help="the language model it was trained on")
    upstream.add_argument(
        "--santa", type=Path, metavar="FILE", help="upstream's memory file; without it, no Santa"
    )
    upstream.add_argument(
        "--compat",
        choices=("paper", "upstream"),
        default="paper",
        help="Santa as in the paper, or as in the released code (default: %(default)s)",
    )
    upstream.add_argument(
        "--lora-alpha",
        type=float,
        default=LoRAConfig().alpha,
        metavar="A",
        help="not in the file (default: %(default)g)",
    )
    upstream.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the language model when it runs (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Convert and print the report.

    Raises:
        MATSError: The file is not what it should be, or the directory is not empty.
    """
    if args.kind == "clap":
        from mats_ray.models.clap import convert_clap

        print(convert_clap(args.file, args.out, tokenizer=args.tokenizer))
        return 0
    from mats_ray.models.upstream.convert import UpstreamOptions, convert_upstream

    options = UpstreamOptions(
        clap=args.clap,
        clap_tokenizer=args.clap_tokenizer,
        llm=args.llm,
        santa=args.santa,
        compat=args.compat,
        lora_alpha=args.lora_alpha,
        dtype=args.dtype,
    )
    print(convert_upstream(args.file, args.out, options))
    return 0


def _add_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the checkpoint")
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="directory to write; must not exist or be empty"
    )
