"""The commands of README and docs exist: subcommands, options, jobs, make targets, configurations.

``make walkthrough`` runs those of three jobs; this is its quick part, for every page.
"""

import itertools
import re
import shlex

import pytest
import yaml

from mats_ray.cli.main import COMMANDS, build_parser
from tests.architecture.source import ROOT
from tests.walkthrough import JOBS, NOT_WALKED, PAGES, fences, fences_of

SHELL = [fence for page in PAGES for fence in fences(page) if fence.language == "bash"]


def commands(code):
    """Yield the words of each command, without comments, heredocs and what a shell does around it."""
    code = re.sub(r"<<'(\w+)'\n.*?\n\1\n", "\n", code.replace("\\\n", " "), flags=re.DOTALL)
    for line in code.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for is_operator, words in itertools.groupby(lexer, key=lambda word: set(word) <= set("&|;<>()")):
            if not is_operator:
                yield list(words)


def named(name):
    """Return the arguments of every ``mats`` command, or of ``python jobs/X.py``, with its place."""
    for fence in SHELL:
        for words in commands(fence.code):
            if name in words:
                yield fence, words[words.index(name) + 1 :]


MATS = [(fence, words) for fence, words in named("mats")]
JOBS_SUBMITTED = [
    (fence, [words[0].removeprefix("jobs/").removesuffix(".py"), *words[1:]])
    for fence, words in named("python")
    if words and words[0].startswith("jobs/")
]


@pytest.mark.parametrize(
    ("fence", "words"),
    [pytest.param(f, w, id=f"{f.place} {' '.join(w)[:60]}") for f, w in [*MATS, *JOBS_SUBMITTED]],
)
def test_a_documented_command_parses(fence, words):
    words = [word for word in words if word != "..."]

    arguments = build_parser(words).parse_args(words)

    assert arguments.command in COMMANDS
    shipped = [path for path in getattr(arguments, "config", None) or () if path.startswith("configs/")]
    assert all((ROOT / path).is_file() for path in shipped), fence.place


def test_the_pages_have_commands_of_every_kind():
    assert {words[0] for _, words in MATS} >= {
        "prepare",
        "embed",
        "memory",
        "train",
        "caption",
        "ask",
        "plan",
    }
    assert JOBS_SUBMITTED


@pytest.mark.parametrize("target", sorted({words[0] for _, words in named("make")}))
def test_a_documented_target_of_make_is_there(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_job_of_the_walk_has_its_fences():
    marked = {fence.job for page in PAGES for fence in fences(page)} - {None}

    assert marked == set(JOBS)
    assert all(fences_of(job) for job in JOBS)


def test_every_fence_of_commands_is_walked_or_has_a_reason_not_to_be():
    unwalked = [f for page in PAGES for f in fences(page) if f.language in ("bash", "python") and not f.job]
    reasons = dict.fromkeys(NOT_WALKED, 0)
    for fence in unwalked:
        page = fence.page.relative_to(ROOT).as_posix()
        known = [key for key in reasons if key[0] == page and fence.code.startswith(key[1])]
        assert len(known) == 1, fence.place
        reasons[known[0]] += 1

    assert set(reasons.values()) == {1}


def test_configurations_in_the_pages_are_yaml():
    blocks = [fence for page in PAGES for fence in fences(page) if fence.language == "yaml"]

    assert blocks
    for block in blocks:
        assert isinstance(yaml.safe_load(block.code), dict), block.place
