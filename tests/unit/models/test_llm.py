"""The language model loads whole, or one error names what is wrong; LoRA starts as peft's does."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

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
from tests.world import seeded, tiny_llm


def tiny_gpt2():
    with seeded(0):
        return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=2, n_head=2))


@pytest.fixture
def path(tmp_path):
    return tiny_llm(tmp_path / "llm")


def adapted(path, seed=0, **lora):
    config = LLMConfig(lora=LoRAConfig(**{"rank": 2} | lora))
    return attach(load_llm(str(path)), config, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", torch.bfloat16), ("auto", torch.float32)])
def test_weights_are_loaded_in_the_configured_precision(path, dtype, expected):
    assert embedding_table(load_llm(str(path), dtype=dtype)).dtype == expected


@pytest.mark.parametrize("load", [load_llm, load_tokenizer])
def test_a_path_that_is_not_there_is_a_clear_error(load, tmp_path):
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


DOWN = "model.layers.0.mlp.down_proj.weight"


def edit_tensors(file, change):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def edit_json(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop(DOWN), f"1 tensors missing: {DOWN}$"),
        (
            lambda tensors: tensors.update({f"{DOWN}.scale": torch.ones(1)}),
            f"1 tensors unknown: {DOWN}.scale",
        ),
        (lambda tensors: tensors.update({DOWN: torch.ones(3)}), rf"{DOWN} is \(3,\), not \(32, 64\)"),
        (lambda tensors: tensors.update({DOWN: tensors[DOWN].char()}), f"of the wrong type: {DOWN} is I8"),
        (lambda tensors: tensors[DOWN].fill_(torch.nan), f"not finite: {DOWN} in torch.float32"),
    ],
    ids=["missing", "extra", "mis-shaped", "quantised", "nan"],
)
def test_weights_that_are_not_exactly_the_models_are_named(path, change, complaint):
    edit_tensors(path / "model.safetensors", change)

    with pytest.raises(
        ModelError, match=rf"the language model '{path}' does not fit its model: .*{complaint}"
    ):
        load_llm(str(path))


def test_a_weight_too_large_for_the_configured_precision_is_named(path):
    edit_tensors(path / "model.safetensors", lambda tensors: tensors[DOWN].fill_(1e6))

    with pytest.raises(ModelError, match=f"not finite: {DOWN} in torch.float16"):
        load_llm(str(path), dtype="float16")


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("num_hidden_layers", 1, r"9 tensors unknown: model\.layers\.1\..* and 4 more$"),
        ("num_hidden_layers", 3, r"9 tensors missing: model\.layers\.2\..* and 4 more$"),
        ("vocab_size", 100, r"lm_head\.weight is \(\d+, 32\), not \(100, 32\)"),
        ("hidden_size", "wide", "cannot be loaded: .*'hidden_size'.* expected int, got str"),
        ("num_attention_heads", 0, "cannot be loaded: ZeroDivisionError"),
        ("rope_parameters", {"rope_type": "mobius"}, "cannot be loaded: KeyError 'mobius'"),
        ("quantization_config", {"quant_method": "gptq", "bits": 4}, "cannot be loaded: .*optimum"),
    ],
)
def test_settings_that_contradict_the_weights_or_make_no_sense_are_named(path, key, value, complaint):
    edit_json(path / "config.json", **{key: value})

    with pytest.raises(ModelError, match=complaint) as caught:
        load_llm(str(path))
    assert "\n" not in str(caught.value)


def test_tied_weights_are_stored_once_and_load(path, tmp_path):
    edit_json(path / "config.json", tie_word_embeddings=True)
    edit_tensors(path / "model.safetensors", lambda tensors: tensors.pop("lm_head.weight"))

    llm = load_llm(str(path))

    assert llm.lm_head.weight is llm.model.embed_tokens.weight


def test_old_causal_masks_of_gpt2_are_no_weights(tmp_path):
    gpt2 = tiny_gpt2()
    gpt2.save_pretrained(tmp_path)
    mask = {"transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64, dtype=torch.uint8)}
    edit_tensors(tmp_path / "model.safetensors", lambda tensors: tensors.update(mask))

    loaded = load_llm(str(tmp_path)).state_dict()

    assert all(torch.equal(tensor, loaded[name]) for name, tensor in gpt2.state_dict().items())


@pytest.fixture
def sharded(path):
    llm = AutoModelForCausalLM.from_pretrained(path)
    shutil.copy(path / "model.safetensors", path / "whole")
    (path / "model.safetensors").unlink()
    llm.save_pretrained(path, max_shard_size="20KB")
    return path


def test_shards_are_one_model(sharded, tmp_path):
    whole = tiny_llm(tmp_path / "other")

    ours, theirs = load_llm(str(sharded)).state_dict(), load_llm(str(whole)).state_dict()

    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def shards(folder):
    return sorted(folder.glob("model-*.safetensors"))


def name_one_more(folder):
    index = folder / "model.safetensors.index.json"
    tree = json.loads(index.read_text())
    tree["weight_map"]["model.extra.weight"] = shards(folder)[0].name
    index.write_text(json.dumps(tree))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: shards(folder)[1].unlink(), "names 1 files that are not there: model-00002-of-"),
        (name_one_more, "names 1 tensors that are not there: model.extra.weight"),
        (
            lambda folder: shutil.copy(shards(folder)[0], folder / "model-00099-of-00099.safetensors"),
            r"shards that are no part of its model\.safetensors\.index\.json: model-00099-of-00099",
        ),
        (
            lambda folder: shutil.copy(shards(folder)[0], shards(folder)[1]),
            r"model-00002-of-\d+\.safetensors repeats tensors of a file beside it: ",
        ),
        (
            lambda folder: shutil.copy(folder / "whole", folder / "model.safetensors"),
            r"shards that are no part of its model\.safetensors: model-00001-of-.* and \d+ more",
        ),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text('{"weight_map": 3}'),
            "is not an index of shards",
        ),
    ],
    ids=["gone", "tensor named", "left over", "twice", "beside the whole", "no index"],
)
def test_shards_that_are_not_those_of_the_index_are_named(sharded, damage, complaint):
    damage(sharded)

    with pytest.raises(ModelError, match=complaint):
        load_llm(str(sharded))


def test_an_adapter_in_the_models_folder_is_not_put_on_in_silence(path):
    adapted(path).save_pretrained(path)

    with pytest.raises(ModelError, match=r"holds an adapter \(adapter_config\.json\); merge it"):
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

    with pytest.raises(ModelError, match=rf"{tmp_path / 'adapter'}.* cannot be (read|loaded)"):
        load_adapter(load_llm(str(path)), tmp_path / "adapter")


def test_an_adapter_of_another_model_is_refused(path, tmp_path):
    adapted(path).save_pretrained(tmp_path / "adapter")
    wider = load_llm(str(path))
    config = wider.config
    config.hidden_size, config.num_attention_heads, config.head_dim = 48, 2, 24
    other = type(wider)(config)

    with pytest.raises(ModelError, match=r"of the wrong shape: .*lora_A\.weight is \(2, 32\), not \(2, 48\)"):
        load_adapter(other, tmp_path / "adapter")


Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop(Q), f"1 tensors missing: {Q}$"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "1 tensors unknown: extra$"),
        (lambda tensors: tensors.update({Q: tensors[Q].int()}), f"1 tensors of the wrong type: {Q} is int32"),
        (lambda tensors: tensors[Q].fill_(torch.inf), f"1 tensors not finite: {Q}$"),
    ],
    ids=["missing", "extra", "quantised", "infinite"],
)
def test_an_adapters_tensors_that_are_not_exactly_its_own_are_named(path, tmp_path, change, complaint):
    adapted(path).save_pretrained(tmp_path)
    edit_tensors(tmp_path / "adapter_model.safetensors", change)

    with pytest.raises(ModelError, match=rf"the adapter in {tmp_path} does not fit its model: {complaint}"):
        load_adapter(load_llm(str(path)), tmp_path)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"target_modules": ["q_proj", "v_proj", "c_attn"]}, "the language model has no module c_attn$"),
        ({"target_modules": ["c_attn"]}, "cannot be loaded: Target modules {'c_attn'} not found"),
        ({"r": 4}, r"of the wrong shape: .*lora_A\.weight is \(2, 32\), not \(4, 32\)"),
        ({"target_modules": ["q_proj"]}, r"4 tensors unknown: .*v_proj"),
        ({"peft_type": "IA3"}, "is of type IA3; only LORA is read$"),
        ({"peft_type": "NONSENSE"}, "cannot be loaded"),
        ({"r": "many"}, "cannot be loaded"),
    ],
)
def test_an_adapters_settings_that_do_not_fit_are_named(path, tmp_path, values, complaint):
    adapted(path).save_pretrained(tmp_path)
    edit_json(tmp_path / "adapter_config.json", **values)

    with pytest.raises(ModelError, match=rf"the adapter in {tmp_path}.*({complaint})"):
        load_adapter(load_llm(str(path)), tmp_path)


def test_a_target_that_only_some_configured_names_reach_is_refused(path):
    with pytest.raises(ModelError, match="LoRA on q_proj, c_attn: the language model has no module c_attn"):
        adapted(path, target_modules=("q_proj", "c_attn"))


def test_lora_on_the_embeddings_starts_from_the_given_seed_too(path):
    one, same, other = (adapted(path, seed, target_modules=("embed_tokens",)) for seed in (0, 0, 1))

    lora = [name for name, _ in one.named_parameters() if "lora_embedding_B" in name]
    one, same, other = (dict(model.named_parameters())[lora[0]] for model in (one, same, other))

    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def with_random_adapter(model):
    """Draw LoRA weights, so that the adapter changes the logits."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 20)[None]).logits


@pytest.mark.parametrize(
    "targets", [("embed_tokens", "q_proj"), ("lm_head",), ("embed_tokens", "lm_head"), ("q_proj", "v_proj")]
)
def test_a_merged_adapter_on_tied_embeddings_gives_the_same_logits(path, targets):
    edit_json(path / "config.json", tie_word_embeddings=True)
    edit_tensors(path / "model.safetensors", lambda tensors: tensors.pop("lm_head.weight"))
    model = with_random_adapter(adapted(path, target_modules=targets))
    expected = logits(model)

    whole = merged(model)

    assert not isinstance(whole, PeftModel)
    torch.testing.assert_close(logits(whole), expected, atol=1e-4, rtol=1e-4)
    is_tied = whole.lm_head.weight is whole.model.embed_tokens.weight
    assert is_tied == whole.config.tie_word_embeddings == (targets == ("q_proj", "v_proj"))


def test_a_merge_that_changes_the_logits_is_refused(path, monkeypatch):
    monkeypatch.setattr(LoraModel, "merge_and_unload", LoraModel.unload)  # the adapter is lost on the way

    with pytest.raises(ModelError, match=rf"cannot be merged into '{path}': logits change by .* of "):
        merged(with_random_adapter(adapted(path, alpha=64)))


@pytest.mark.parametrize(("dtype", "is_merged"), [(torch.float32, True), (torch.bfloat16, False)])
def test_a_merged_adapter_gives_the_same_logits_and_half_precision_keeps_the_adapter(path, dtype, is_merged):
    model = adapted(path, alpha=8).to(dtype).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        expected = model(input_ids=ids).logits

        one = merged(model)

        # merged weights are rounded, and processors sum in other orders: apart relative to the largest logit
        atol = 1e-5 * expected.abs().max().item()
        torch.testing.assert_close(one(input_ids=ids).logits, expected, rtol=1.3e-6, atol=atol)
    assert isinstance(one, PeftModel) is not is_merged
    assert merged(one) is one


def test_a_model_without_an_adapter_stays_as_it_is(path):
    llm = load_llm(str(path))

    assert merged(llm) is llm
