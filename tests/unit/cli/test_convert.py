"""``mats convert`` as a user types it."""

import json

import pytest

from mats_ray.cli.main import main
from mats_ray.models.directory import read_info
from tests.unit.models.clap.small import msclap_state, save_msclap
from tests.unit.models.upstream.small import base_models, save, state_of, trained


def test_a_clap_becomes_a_directory(tmp_path, capsys):
    file = save_msclap(tmp_path / "CLAP.pth", msclap_state())

    code = main(["convert", "clap", str(file), str(tmp_path / "out")])

    assert code == 0
    assert "msclap CLAP from CLAP.pth" in capsys.readouterr().out
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_released_checkpoint_becomes_a_model_directory(tmp_path, capsys):
    bases = base_models(tmp_path)
    file = save(tmp_path, state_of(trained(tmp_path)[0]))
    words = [
        "convert",
        "upstream",
        str(file),
        str(tmp_path / "out"),
        "--clap",
        bases["clap"],
        "--llm",
        bases["llm"],
    ]

    code = main(
        [*words, "--clap-tokenizer", bases["clap"], "--lora-alpha", "16", "--dtype", "bfloat16"],
    )

    assert code == 0
    assert "mats.pth (sha256 " in capsys.readouterr().out
    model = read_info(tmp_path / "out").model
    assert (model.llm.lora.alpha, model.llm.dtype) == (16, "bfloat16")
    assert model.clap.tokenizer == bases["clap"]
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["lora_alpha"] == 16


def test_what_is_wrong_is_the_last_line(tmp_path, capsys):
    code = main(
        ["convert", "upstream", str(tmp_path / "no.pth"), str(tmp_path / "out"), "--clap", "c", "--llm", "l"]
    )

    assert code == 1
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == f"mats convert: error: no such file: {tmp_path / 'no.pth'}"
    )


@pytest.mark.parametrize("words", [[], ["clap"], ["upstream", "a", "b"], ["elsewhere", "a", "b"]])
def test_bad_usage_exits_with_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["convert", *words])

    assert caught.value.code == 2
