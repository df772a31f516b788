"""LoRA and base weights of a released checkpoint meet the language model they were trained on."""

import pytest
import torch
from peft import PeftModel

from mats_ray.errors import ModelError
from mats_ray.models.llm import load_llm, load_tokenizer
from mats_ray.models.upstream.llm import architecture, attach_lora, base_model, lora_config
from tests.world import tiny_llm


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return str(tiny_llm(tmp_path_factory.mktemp("llm")))


def lora(rank=2, targets=("q_proj", "v_proj"), width=32):
    return {
        f"base_model.model.model.layers.{layer}.self_attn.{target}.lora_{side}.default.weight": torch.randn(
            (rank, width) if side == "A" else (width, rank), generator=torch.Generator().manual_seed(layer)
        )
        for layer in range(2)
        for target in targets
        for side in "AB"
    }


def base(path):
    return load_llm(path).state_dict()


def test_an_architecture_costs_no_memory(path):
    assert {parameter.device.type for parameter in architecture(path).parameters()} == {"meta"}


def test_an_absent_model_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"the language model '.*nowhere' cannot be loaded"):
        architecture(str(tmp_path / "nowhere"))


def test_rank_and_targets_are_read_off_the_tensors():
    config = lora_config(lora(rank=3, targets=("k_proj", "q_proj")), alpha=12, source="F")

    assert (config.rank, config.alpha, config.target_modules) == (3, 12, ("k_proj", "q_proj"))


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [({}, "no LoRA"), (lora(2, ("q_proj",)) | lora(3, ("v_proj",)), r"LoRA of ranks 2, 3")],
    ids=["none", "two ranks"],
)
def test_anything_but_one_adapter_is_refused(tensors, expected):
    with pytest.raises(ModelError, match=f"F holds {expected}"):
        lora_config(tensors, alpha=32, source="F")


def test_the_adapter_sits_on_its_model(path):
    tensors = lora()

    wrapped = attach_lora(architecture(path), tensors, lora_config(tensors, alpha=32, source="F"), source="F")

    assert isinstance(wrapped, PeftModel)
    theirs = dict(wrapped.named_parameters())
    assert all(torch.equal(theirs[name], tensor) for name, tensor in tensors.items())


def test_half_precision_adapters_are_kept_in_single(path):
    tensors = {name: tensor.half() for name, tensor in lora().items()}

    wrapped = attach_lora(architecture(path), tensors, lora_config(tensors, alpha=32, source="F"), source="F")

    assert {p.dtype for name, p in wrapped.named_parameters() if ".lora_" in name} == {torch.float32}


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        (dict(list(lora().items())[:-1]), r"1 tensors missing: .*layers\.1\.self_attn\.v_proj\.lora_B"),
        (
            lora(width=48),
            r"of the wrong shape: .*q_proj\.lora_A\.default\.weight is \(2, 48\), not \(2, 32\)",
        ),
        (lora(targets=("elsewhere",)), "does not fit"),
    ],
    ids=["missing", "another width", "another architecture"],
)
def test_an_adapter_of_another_model_is_refused_by_name(path, tensors, expected):
    config = lora_config(tensors, alpha=32, source="F")

    with pytest.raises(ModelError, match=expected):
        attach_lora(architecture(path), tensors, config, source="F")


def test_without_base_weights_the_model_is_referred_to(path, tmp_path):
    assert base_model({}, path, tmp_path / "llm", source="F") == (path, [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_equal_base_weights_need_no_copy(path, tmp_path, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in base(path).items()}
    tensors["model.embed_tokens.weight"] = with_pad_row(tensors["model.embed_tokens.weight"])

    assert base_model(tensors, path, tmp_path / "llm", source="F") == (path, [])
    assert not (tmp_path / "llm").exists()


def with_pad_row(table):
    return torch.cat([table, torch.ones(1, table.shape[1], dtype=table.dtype)])


def test_other_base_weights_become_a_model_of_their_own(path, tmp_path):
    tuned = base(path)["model.layers.0.mlp.up_proj.weight"] + 1
    head = with_pad_row(base(path)["lm_head.weight"] * 2)

    found, different = base_model(
        {"model.layers.0.mlp.up_proj.weight": tuned, "lm_head.weight": head},
        path,
        tmp_path / "llm",
        source="F",
    )

    assert found == str(tmp_path / "llm")
    assert different == ["lm_head.weight", "model.layers.0.mlp.up_proj.weight"]
    own = base(found)
    assert torch.equal(own["model.layers.0.mlp.up_proj.weight"], tuned)
    assert torch.equal(own["lm_head.weight"], head[:-1])
    rest = own.keys() - set(different)
    assert all(torch.equal(own[name], base(path)[name]) for name in rest)
    assert load_tokenizer(found).get_vocab() == load_tokenizer(path).get_vocab()


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"model.layers.9.mlp.up_proj.weight": torch.zeros(64, 32)}, r"1 tensors unknown: model\.layers\.9"),
        (
            {"model.norm.weight": torch.zeros(33)},
            r"of the wrong shape: model\.norm\.weight is \(33,\), not \(32,\)",
        ),
    ],
    ids=["unknown", "another shape"],
)
def test_base_weights_of_another_model_are_refused_by_name(path, tmp_path, tensors, expected):
    with pytest.raises(ModelError, match=expected):
        base_model(tensors, path, tmp_path / "llm", source="F")
