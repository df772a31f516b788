"""The reference pages: everything there is stands in them, and they come from nowhere but the code."""

import argparse
import re
import subprocess

import pytest

import mats_ray
from docs.site import (
    command_reference,
    configuration_reference,
    data_reference,
    metrics_reference,
    python_reference,
)
from docs.site.assemble import REFERENCE
from mats_ray.cli.main import COMMANDS, build_parser
from mats_ray.config import RunConfig
from mats_ray.config.evaluate import EvaluateConfig
from mats_ray.data.sources.registry import SOURCES
from mats_ray.evaluate.benchmark import benchmark_names, find_benchmark
from mats_ray.serving.metrics import METRICS
from tests.architecture.source import ROOT


def cells(page):
    """The first cell of each row of the tables of a page, as text."""
    return [
        re.sub(r"&#(\d+);", lambda m: chr(int(m[1])), cell)
        for cell in re.findall(r"^\| <code>(.*?)</code>", page, re.M)
    ]


def section_of(page, title):
    return re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.M | re.S)[1]


@pytest.fixture(scope="module")
def commands():
    return command_reference.page()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_that_help_prints_is_in_the_page(commands, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    parser = build_parser([command])._subparsers._group_actions[0].choices[command]
    kinds = [a.choices.values() for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    helps = [one.format_help() for one in (parser, *(kind for choices in kinds for kind in choices))]

    printed = {option for text in helps for option in re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.M)}
    section = section_of(commands, f"mats {command}")

    assert printed - {"--help"} == {
        one for cell in cells(section) for one in cell.split(", ") if one[0] == "-"
    }
    assert COMMANDS[command][1:20] in section


def test_positional_arguments_and_kinds_are_in_the_page(commands):
    assert {"### mats convert clap", "### mats convert upstream"} <= set(commands.splitlines())
    assert cells(section_of(commands, "mats config"))[0] == "action"
    assert "show|validate".replace("|", "&#124;") in section_of(commands, "mats config")


def test_a_default_that_the_help_does_not_say_is_added(commands):
    assert re.search(r"<code>--host</code> .*default: 127\.0\.0\.1", commands)
    assert re.search(r"<code>--gpu</code> .*\(default: a100-80\)", commands)


def leaves(model, prefix=""):
    """The paths of all keys of a section with a value in each of them."""
    for name, value in model:
        path = f"{prefix}{name}"
        yield path
        if hasattr(value, "model_fields_set"):
            yield from leaves(value, f"{path}.")


@pytest.mark.parametrize("kind", [RunConfig, EvaluateConfig])
def test_every_key_of_a_configuration_is_in_the_page(kind):
    page = cells(configuration_reference.page())
    written = {key.path for section in configuration_reference.sections(kind) for key in section.keys}
    given = (
        {"benchmarks": [{"name": "a", "annotations": "b"}], "out": "c"}
        if kind is EvaluateConfig
        else {"toy": {}}
    )
    example = kind.model_validate(given)

    assert written >= set(leaves(example))
    assert written <= set(page)


def test_keys_inside_lists_and_of_absent_sections_are_there():
    written = {key.path for section in configuration_reference.sections(RunConfig) for key in section.keys}

    assert {
        "data.prepare.sources[].columns.text",
        "serve.tracing.exporter",
        "serve.generation.profile",
        "toy.clap_steps",
    } <= written


def key(path):
    return next(
        key
        for section in configuration_reference.sections(RunConfig)
        for key in section.keys
        if key.path == path
    )


def test_values_defaults_and_meanings_are_those_of_the_class():
    assert key("model.llm.lora.rank").allowed == "positive integer"
    assert key("santa.mix").allowed == "number from 0 to 1"
    assert key("caption.part_rows").allowed == "integer from 1,000 to 2,000,000"
    assert key("train.schedule.type").allowed == "`linear`, `cosine`, `constant`"
    assert key("scaling.num_workers").allowed == "positive integer or [positive integer, positive integer]"
    assert key("train.optim.lr").default == "3e-05"
    assert "Number of neighbours" not in key("santa.num_neighbours").meaning
    assert key("santa.num_neighbours").meaning.startswith("L: number of texts averaged")


def test_a_section_s_own_default_wins_over_that_of_its_class():
    assert (key("serve.ingress.cpus").default, key("serve.encoder.cpus").default) == ("0.25", "0.5")
    assert key("serve.ingress.autoscaling.max_replicas").default == "1"
    assert key("serve.encoder.autoscaling.max_replicas").default == "2"


def test_a_schema_without_words_is_refused():
    with pytest.raises(ValueError, match="no words"):
        configuration_reference.allowed({"type": "tuple"}, {})


def test_every_public_name_is_in_the_page_under_the_module_that_defines_it():
    found = python_reference.public_names()

    assert set(found["mats_ray"]) == set(mats_ray.__all__) - {"__version__"}
    assert found["mats_ray"]["MATSPipeline"] == "mats_ray.infer.pipeline.MATSPipeline"
    assert found["mats_ray"]["RunConfig"] == "mats_ray.config.run.RunConfig"
    page = python_reference.page()
    for names in found.values():
        for target in names.values():
            assert f"::: {target}\n" in page
            module, _, name = target.rpartition(".")
            path = ROOT.joinpath(*module.split("."))
            source = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
            assert re.search(rf"^(?:class|def|async def) {name}\b|^{name}\b", source.read_text(), re.M), (
                target
            )


def test_every_metric_is_in_the_page():
    assert cells(metrics_reference.page()) == [*METRICS, "mats_answers_running", "mats_answers_waiting"]


def test_every_source_and_benchmark_is_in_the_page():
    assert cells(data_reference.page()) == [*SOURCES, *benchmark_names()]


def test_the_numbers_to_expect_are_those_of_the_benchmarks():
    """The table of ``docs/reproduce.md`` has every published number of both models, and no other."""
    rows = re.findall(
        r"^\| (\d) \| `(\w+)` \| (\S+) \| ([\d.]+) \| ([\d.]+) \|$",
        (ROOT / "docs" / "reproduce.md").read_text(),
        re.M,
    )

    written = {(name, measure): (float(gpt2), float(llama)) for _, name, measure, gpt2, llama in rows}
    published = {
        (name, measure): tuple(results[model] for model in data_reference.MODELS)
        for name in benchmark_names()
        for measure, results in find_benchmark(name).results.items()
        if "MATS-LLaMA" in results
    }
    assert written == published
    assert sorted({table for table, *_ in rows}) == ["1", "2", "3", "4"]


def test_no_reference_page_is_in_the_repository():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:  # not a checkout: an unpacked archive
        assert not set(REFERENCE) & set(listed.stdout.splitlines())
    assert not any((ROOT / name).exists() for name in REFERENCE)


def test_any_text_fits_into_a_cell():
    from docs.site.markup import code, prose

    assert code("a|b<c>") == "<code>a&#124;b&lt;c&gt;</code>"
    assert prose("one of ``a|b``,\n  *never*") == "one of <code>a&#124;b</code>, &#42;never&#42;"
