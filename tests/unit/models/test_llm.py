"""The language model loads, or one error names it; LoRA starts as peft's does."""

import shutil

import pytest
import torch
from peft import PeftModel

from mats_ray.config.model import LLMConfig, LoRAConfig
from mats_ray.errors import ModelError
from mats_ray.models.llm import (
    attach,
    checkpoint_hash,
    embedding_table,
    load_adapter,
    load_llm,
    load_tokenizer,
    merged,
)
from tests.world import tiny_llm


@pytest.fixture
def path(tmp_path):
    return tiny_llm(tmp_path / "llm")


def adapted(path, seed=0, **lora):
    config = LLMConfig(lora=LoRAConfig(**{"rank": 2} | lora))
    return attach(load_llm(str(path)), config, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", torch.bfloat16), ("auto", torch.float32)])
def test_weights_come_in_the_precision_asked_for(path, dtype, expected):
    assert embedding_table(load_llm(str(path), dtype=dtype)).dtype == expected


@pytest.mark.parametrize("load", [load_llm, load_tokenizer])
def test_a_path_that_is_not_there_is_said_plainly(load, tmp_path):
    with pytest.raises(ModelError, match=r"^no directory .*/nowhere$"):
        load(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("load", [load_llm, load_tokenizer])
def test_a_directory_of_something_else_is_named(load, tmp_path):
    with pytest.raises(ModelError, match=rf"'{tmp_path}' cannot be loaded: .+"):
        load(str(tmp_path))


def altered(file):
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_one_byte_of_what_a_model_computes_with_makes_another_hash(path, name):
    before = checkpoint_hash(str(path))
    assert len(before) == 16

    altered(path / name)

    assert checkpoint_hash(str(path)) != before


def test_the_hash_is_of_the_content_and_not_of_the_place(path, tmp_path):
    before = checkpoint_hash(str(path))
    (path / "README.md").write_text("a card")

    assert checkpoint_hash(str(shutil.move(path, tmp_path / "moved"))) == before


def test_the_hash_of_a_gguf_file_is_of_the_file_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("mats_ray.models.gguf.importlib.util.find_spec", lambda _: True)
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(name.encode())
    first = checkpoint_hash(f"{tmp_path}/a.gguf")

    altered(tmp_path / "b.gguf")
    assert checkpoint_hash(f"{tmp_path}/a.gguf") == first
    altered(tmp_path / "a.gguf")
    assert checkpoint_hash(f"{tmp_path}/a.gguf") != first


def test_cut_off_weights_are_named(path):
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    with pytest.raises(ModelError, match=rf"the language model '{path}' cannot be loaded"):
        load_llm(str(path))


def test_cut_off_settings_are_named(path):
    config = path / "config.json"
    config.write_text(config.read_text()[:50])

    with pytest.raises(ModelError, match=rf"the language model '{path}' cannot be loaded"):
        load_llm(str(path))


def test_a_cut_off_tokenizer_is_named(path):
    tokenizer = path / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text()[:500])

    with pytest.raises(ModelError, match=rf"the tokenizer '{path}' cannot be loaded"):
        load_tokenizer(str(path))


def test_fresh_lora_changes_nothing_and_is_frozen_around(path):
    ids = torch.arange(8)[None]

    plain, with_lora = load_llm(str(path)), adapted(path).eval()

    torch.testing.assert_close(with_lora(ids).logits, plain(ids).logits)
    assert all((".lora_" in name) == p.requires_grad for name, p in with_lora.named_parameters())


def test_lora_is_scaled_by_alpha_over_rank(path):
    model = adapted(path, rank=4, alpha=6.0)

    scalings = {module.scaling["default"] for module in model.modules() if hasattr(module, "lora_A")}

    assert scalings == {1.5}


def test_the_whole_model_stays_trainable_when_configured(path):
    llm = load_llm(str(path))

    assert attach(llm, LLMConfig(train="full"), generator=torch.Generator()) is llm
    assert all(parameter.requires_grad for parameter in llm.parameters())


def test_a_saved_adapter_comes_back(path, tmp_path):
    model = adapted(path)
    model.save_pretrained(tmp_path / "adapter")

    loaded = load_adapter(load_llm(str(path)), tmp_path / "adapter")

    assert isinstance(loaded, PeftModel)
    theirs = dict(loaded.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in model.named_parameters())


def test_an_absent_adapter_is_named(path, tmp_path):
    with pytest.raises(ModelError, match=rf"the adapter in {tmp_path} cannot be loaded"):
        load_adapter(load_llm(str(path)), tmp_path)


@pytest.mark.parametrize(
    ("file", "size"),
    [("adapter_model.safetensors", -50), ("adapter_model.safetensors", 5), ("adapter_config.json", 30)],
)
def test_a_cut_off_adapter_is_named(path, tmp_path, file, size):
    adapted(path).save_pretrained(tmp_path / "adapter")
    cut = tmp_path / "adapter" / file
    cut.write_bytes(cut.read_bytes()[:size])

    with pytest.raises(ModelError, match=rf"the adapter in {tmp_path / 'adapter'} cannot be loaded"):
        load_adapter(load_llm(str(path)), tmp_path / "adapter")


def test_an_adapter_of_another_model_is_refused(path, tmp_path):
    adapted(path).save_pretrained(tmp_path / "adapter")
    wider = load_llm(str(path))
    config = wider.config
    config.hidden_size, config.num_attention_heads, config.head_dim = 48, 2, 24
    other = type(wider)(config)

    with pytest.raises(ModelError, match="cannot be loaded"):
        load_adapter(other, tmp_path / "adapter")


@pytest.mark.parametrize(("dtype", "is_merged"), [(torch.float32, True), (torch.bfloat16, False)])
def test_a_merged_adapter_says_the_same_and_coarse_weights_keep_theirs_beside(path, dtype, is_merged):
    model = adapted(path, alpha=8).to(dtype).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        expected = model(input_ids=ids).logits

        one = merged(model)

        torch.testing.assert_close(one(input_ids=ids).logits, expected)
    assert isinstance(one, PeftModel) is not is_merged
    assert merged(one) is one


def test_a_model_without_an_adapter_stays_as_it_is(path):
    llm = load_llm(str(path))

    assert merged(llm) is llm
