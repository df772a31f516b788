"""The page of all commands and options, from the parsers that read them."""

import argparse
from collections.abc import Iterator
from functools import partial

from docs.site.markup import code, prose, table
from mats_ray.cli.main import COMMANDS, build_parser

HEAD = """\
# Commands

Made from the parsers of `mats_ray/cli`. Results go to stdout, progress and logs to stderr. Exit codes:
0 done, 1 the run failed, 2 bad usage or configuration, 130 interrupted, 141 nobody reads stdout any more.

"""
WIDTH = 100
"""Longest line of a usage."""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(_section(parser) for name in COMMANDS for parser in parsers(name))


def parsers(command: str) -> Iterator[argparse.ArgumentParser]:
    """Yield the parser of a command, then those of its kinds (``mats convert clap``)."""
    yield from _with_kinds(_kinds(build_parser([command]))[command])


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the options and arguments of one parser, without ``--help`` and the choice of a kind."""
    left_out = (argparse._HelpAction, argparse._SubParsersAction)
    return [action for action in parser._actions if not isinstance(action, left_out)]


def _with_kinds(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for kind in _kinds(parser).values():
        yield from _with_kinds(kind)


def _kinds(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    chosen = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(next(chosen, {}))


def _section(parser: argparse.ArgumentParser) -> str:
    parser.formatter_class = partial(argparse.RawDescriptionHelpFormatter, width=WIDTH)
    level = "#" * parser.prog.count(" ") + "#"
    rows = [
        (code(_names(action)), code(_value(action)) if _value(action) else "", prose(_help(parser, action)))
        for action in options(parser)
    ]
    parts = [
        f"{level} {parser.prog}",
        prose(f"{parser.description[:1].upper()}{parser.description[1:]}.") if parser.description else "",
        f"```text\n{parser.format_usage().strip()}\n```",
        table(("option", "value", "meaning"), rows) if rows else "",
        f"```text\n{parser.epilog.strip()}\n```" if parser.epilog else "",
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n\n"


def _names(action: argparse.Action) -> str:
    return ", ".join(action.option_strings) or str(action.metavar or action.dest)


def _value(action: argparse.Action) -> str:
    """Return what an option is given: nothing for a switch, the choices where there are some."""
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    return (action.metavar or action.dest.upper()) if action.option_strings else ""


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return the help of an option, with its default where the text does not say it."""
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    notes = ["required"] if action.required and action.option_strings else []
    if action.default not in (None, False, [], argparse.SUPPRESS) and "default" not in text:
        notes.append(f"default: {action.default}")
    return " ".join([text, *(f"({note})" for note in notes)]).strip()
