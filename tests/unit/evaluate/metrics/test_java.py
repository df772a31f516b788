"""METEOR equals pycocoevalcap's; what Java cannot do here is named, and never fetched."""

import shutil
import sys

import numpy as np
import pytest
from pycocoevalcap.meteor.meteor import Meteor

from mats_ray.evaluate.metrics import java
from mats_ray.evaluate.metrics.java import UnavailableError

needs_java = pytest.mark.skipif(not shutil.which("java"), reason="no java on PATH")
CANDIDATES = ["a dog is barking loudly", "it rains", "", "the cars pass by | | | fast", "a cat meows"]
REFERENCES = [
    ["a dog barks loudly", "dogs bark"],
    ["it rains"],
    ["a man talks"],
    ["many vehicles are passing by quickly", ""],
    ["an engine idles", "wind"],
]


@pytest.fixture(scope="module")
def meteor():
    return java.meteor(CANDIDATES, REFERENCES)


@needs_java
def test_meteor_equals_pycocoevalcap_on_all_samples_and_on_each(meteor):
    total, single = Meteor().compute_score(
        dict(enumerate(REFERENCES)), {n: [text] for n, text in enumerate(CANDIDATES)}
    )

    assert meteor.of(np.arange(5)) == pytest.approx(total, abs=1e-12)
    assert [meteor.of(np.array([n])) for n in range(5)] == pytest.approx(single, abs=1e-12)
    assert 0 < total < 1


@needs_java
def test_meteor_of_an_empty_candidate_is_zero_and_it_lowers_that_of_the_others(meteor):
    assert meteor.of(np.array([2])) == 0
    assert meteor.of(np.array([0, 2])) < meteor.of(np.array([0]))


@needs_java
def test_meteor_of_no_sample_is_zero(meteor):
    assert meteor.of(np.array([], dtype=int)) == 0


@needs_java
def test_equal_texts_have_meteor_one_however_many(meteor):
    assert meteor.of(np.array([1])) == 1
    assert meteor.of(np.array([1, 1, 1])) == 1


def test_what_java_prints_does_not_reach_the_terminal(monkeypatch, tmp_path, capfd):
    java_script(tmp_path, monkeypatch, "cat > /dev/null", "echo Warning >&2", f"echo {'1 ' * 23}")

    java.meteor(["a dog"], [["a dog"]])

    assert capfd.readouterr() == ("", "")


def test_without_java_meteor_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UnavailableError, match=r"^there is no java on PATH$"):
        java.meteor(["a dog"], [["a dog"]])


def java_script(folder, monkeypatch, *lines):
    """Put a program named java on PATH."""
    program = folder / "java"
    program.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_java_that_fails_is_quoted_in_the_reason(monkeypatch, tmp_path):
    java_script(tmp_path, monkeypatch, "echo 'Error: heap too large' >&2", "exit 1")

    with pytest.raises(UnavailableError, match=r"ended with 1: Error: heap too large$"):
        java.meteor(["a dog"], [["a dog"]])


def test_a_meteor_that_prints_something_else_is_quoted_in_the_reason(monkeypatch, tmp_path):
    java_script(tmp_path, monkeypatch, "cat > /dev/null", "echo 'Error: specify SCORE or EVAL'")

    with pytest.raises(UnavailableError, match="specify SCORE or EVAL"):
        java.meteor(["a dog"], [["a dog"]])


@pytest.mark.parametrize(
    ("text", "version"), [('openjdk version "17.0.15" 2025-04-15', 17), ('java version "1.8.0_292"', 8)]
)
def test_the_version_of_java_is_read_in_both_notations(monkeypatch, tmp_path, text, version):
    java_script(tmp_path, monkeypatch, f"echo '{text}' >&2")

    assert java.java_version() == version


@pytest.fixture
def spice_folder(monkeypatch, tmp_path):
    """A SPICE beside the real one, with empty files for CoreNLP's jars."""
    folder = tmp_path / "spice"
    (folder / "lib").mkdir(parents=True)
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (folder / "lib" / name).touch()
    monkeypatch.setattr(java, "_folder", lambda name: tmp_path / name)
    return folder


def test_spice_names_the_jar_that_is_missing_and_asks_nobody_for_it(spice_folder):
    (spice_folder / "lib" / "stanford-corenlp-3.6.0-models.jar").unlink()

    with pytest.raises(UnavailableError, match=r"^SPICE needs stanford-corenlp-3.6.0-models.jar of Stanford"):
        java.spice(["a dog"], [["a dog"]])

    assert [path.name for path in (spice_folder / "lib").iterdir()] == ["stanford-corenlp-3.6.0.jar"]


def test_spice_does_not_start_on_a_java_it_fails_on(spice_folder, monkeypatch, tmp_path):
    java_script(tmp_path, monkeypatch, "echo 'openjdk version \"17.0.15\"' >&2")

    with pytest.raises(UnavailableError, match=r"^SPICE needs Java 8 to 13, here is Java 17$"):
        java.spice(["a dog"], [["a dog"]])


SPICE_PROGRAM = """
import json, sys
if "-version" in sys.argv:
    print('java version "1.8.0_292"')
    sys.exit()
items = json.load(open(sys.argv[4]))
values = {"a dog": 0.5, "": 0.25}
found = [{"image_id": one["image_id"], "scores": {"All": {"f": values.get(one["test"])}}} for one in items]
json.dump(found[::-1], open(sys.argv[sys.argv.index("-out") + 1], "w"))
"""
"""Answers as spice-1.0.jar does: f is null where a caption has no tuple; not in the order of the samples."""


def test_spice_is_the_mean_of_f_and_zero_for_an_empty_candidate_or_none(spice_folder, monkeypatch, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(SPICE_PROGRAM)
    java_script(tmp_path, monkeypatch, f'exec {sys.executable} {program} "$@"')

    measure = java.spice(["a dog", "", "wind"], [["a dog", "dogs"], ["a dog"], ["rain"]])

    assert measure.values_N.tolist() == [0.5, 0, 0]
    assert measure.of(np.arange(3)) == pytest.approx(0.5 / 3)
