"""Libraries of the extra are imported when needed, and named when they are not there."""

import subprocess
import sys

import pytest

from mats_ray.errors import ConfigError
from mats_ray.evaluate.extra import is_installed, require


def test_a_module_that_is_installed_is_returned():
    assert require("json.decoder") is sys.modules["json.decoder"]


def test_a_missing_module_is_named_with_the_command_that_installs_it():
    with pytest.raises(
        ConfigError,
        match=r"^no_such_library is not installed, which scores need: pip install 'mats-ray\[evaluate\]'$",
    ):
        require("no_such_library.part")


def test_a_missing_part_of_another_library_is_the_one_that_is_named(tmp_path, monkeypatch):
    (tmp_path / "half_a_library.py").write_text("import its_missing_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ConfigError, match=r"^its_missing_dependency is not installed"):
        require("half_a_library")


def test_looking_for_a_module_does_not_import_it(tmp_path, monkeypatch):
    (tmp_path / "loud_library.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert is_installed("loud_library")
    assert is_installed("loud_library.any.part")
    assert not is_installed("no_such_library")
    assert "loud_library" not in sys.modules


def test_scorers_load_no_library_before_they_score():
    libraries = ("pycocoevalcap", "sklearn", "torch", "sentence_transformers", "aac_metrics")
    code = (
        "import sys; from mats_ray.evaluate.metrics import answers, captions, choices, labels; "
        f"sys.exit(' '.join({{*{libraries}}} & set(sys.modules)) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
