import argparse
import subprocess
import sys

import pytest

from mats_ray.cli import serve
from mats_ray.errors import ConfigError, ModelError


def parse(*words):
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return parser.parse_args(words)


def test_it_listens_on_localhost_by_default():
    args = parse()

    assert (args.host, args.port) == ("127.0.0.1", 8000)


def test_a_missing_model_is_one_line_and_ray_is_not_started(tmp_path):
    with pytest.raises(ModelError) as caught:
        serve.run(parse("--model", str(tmp_path / "nothing")))

    assert str(caught.value) == f"no model directory at {tmp_path / 'nothing'}"


def test_a_bad_setting_is_found_first():
    with pytest.raises(ConfigError, match=r"serve\.threads = 'many' is not allowed"):
        serve.run(parse("--model", "nowhere", "--set", "serve.threads=many"))


def test_importing_the_command_is_light():
    heavy = "{'torch', 'ray', 'fastapi', 'pydantic', 'numpy'} & set(sys.modules)"
    code = f"import sys, mats_ray.cli.serve; print(sorted({heavy}))"

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert out.strip() == "[]"
