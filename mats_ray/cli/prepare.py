"""``mats prepare``: annotation files to triplets."""

import argparse

from mats_ray.cli.args import add_config_arguments, config_of

EPILOG = """\
data.prepare.sources of the configuration names the files:

  data:
    prepare:
      sources:
        - {source: clotho, path: s3://bucket/clotho}
        - {source: audiocaps, path: audiocaps/train.csv}
        - {source: table, path: mine.csv, columns: {text: caption}}   # docs/own_captions.md

docs/data.md lists the sources, what each needs beside, and what is left out so that test sets stay unseen."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_config_arguments(parser, example="data.prepare.concurrency=4")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="read everything, write nothing, say what would be made and dropped",
    )
    parser.add_argument(
        "--report", action="store_true", help="say for each source what was kept, dropped and why"
    )
    parser.add_argument(
        "--license-allow",
        action="append",
        default=[],
        metavar="LICENCE",
        help='keep rows of this licence only, for example "CC BY 4.0"; repeatable',
    )


def run(args: argparse.Namespace) -> int:
    """Read annotation files and write triplets.

    Raises:
        MATSError: The files cannot be used.
    """
    config = config_of(args)
    if args.license_allow:
        config = config.replace(data={"prepare": {"license_allow": args.license_allow}})
    from mats_ray.cli.on_ray import cluster
    from mats_ray.data.prepare.input_files import find_input_files
    from mats_ray.data.prepare.on_ray import prepare

    if args.dry_run:
        for one in find_input_files(config.data.prepare):
            beside = "".join(f", {role} {', '.join(paths)}" for role, paths in one.companions.items())
            print(f"{one.source.name}: {one.path} ({one.num_bytes} bytes, split {one.split}{beside})")
    report = prepare(config, dry_run=args.dry_run, cluster=cluster)
    if args.dry_run or args.report:
        print(report.table())
    if args.dry_run:
        for name, example in report.examples.items():
            print(f"{name}, for example: {example}")
    print(report.summary())
    return 0
