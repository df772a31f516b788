import argparse
import shlex
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


def test_the_example_is_about_a_sound_that_exists(tmp_path):
    model, url = tmp_path / "the demo" / "model", "http://127.0.0.1:8000"
    command = serve.example(url, model=str(model), needs_key=False)
    assert shlex.split(command)[:5] == ["curl", "-F", "file=@clip.wav", "-F", "question=Is there a dog?"]

    sound = tmp_path / "the demo" / "audio" / "0000.wav"
    sound.parent.mkdir(parents=True)
    sound.touch()
    command = serve.example(url, model=str(model), needs_key=False)
    assert shlex.split(command)[2] == f"file=@{sound}"
    assert command.endswith(f"{url}/v1/audio/questions")


def test_the_example_has_a_key_where_one_is_needed():
    command = serve.example("http://127.0.0.1:8000", model="nowhere", needs_key=True)

    assert '-H "Authorization: Bearer $KEY"' in command


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "it cannot be read: No such file or directory"),
        ("", "there are no API keys in "),
        ("alice:long-enough\nbob:short\n", "the key in line 2 has fewer than 8 characters"),
    ],
)
def test_a_key_file_with_a_fault_is_one_line_before_ray_starts(content, expected, model_dir, tmp_path):
    keys = tmp_path / "keys"
    if content is not None:
        keys.write_text(content)

    with pytest.raises(ConfigError, match=expected) as caught:
        serve.run(parse("--model", str(model_dir), "--set", f"serve.api_keys_file={keys}"))
    assert str(keys) in str(caught.value)
    assert "short" not in str(caught.value)
