"""A state dict fits its module exactly, or every name that does not is reported."""

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import PreTrainedTokenizerFast

from mats_ray.errors import ModelError
from mats_ray.models.weights import (
    NativeName,
    check_vocabulary,
    dim,
    hash_files,
    load_weights,
    read_safetensors,
    refuse_misfits,
)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(2, 2, bias=False) for _ in range(3))
        self.register_buffer("relative_position_index", torch.arange(4))


def qkv(name):
    parts = {"query.weight": 0, "key.weight": 1, "value.weight": 2}
    return NativeName("qkv.weight", third=parts[name]) if name in parts else NativeName(name)


def test_thirds_of_a_fused_tensor_are_split():
    module = Attention()
    fused = torch.arange(12.0).view(6, 2)

    left_out = load_weights(
        module,
        {"qkv.weight": fused, "head.weight": fused},
        source="F",
        native_name=qkv,
        unused=r"head\..*",
    )

    assert left_out == ["head.weight"]
    assert torch.equal(module.query.weight, fused[:2])
    assert torch.equal(module.key.weight, fused[2:4])
    assert torch.equal(module.value.weight, fused[4:])
    assert torch.equal(module.relative_position_index, torch.arange(4))


def test_half_precision_weights_become_float32():
    module = nn.Linear(2, 2, bias=False)

    load_weights(module, {"weight": torch.ones(2, 2, dtype=torch.float16)}, source="F")

    assert module.weight.dtype == torch.float32
    assert torch.equal(module.weight, torch.ones(2, 2))


def test_every_misfit_is_named_at_once():
    state = {"weight": torch.ones(3, 2), "gain": torch.ones(1), "scale": torch.ones(1)}

    with pytest.raises(ModelError) as caught:
        load_weights(nn.Linear(2, 2), state, source="F.pt")
    assert str(caught.value) == (
        "F.pt does not fit its model: 1 tensors missing: bias; 2 tensors unknown: gain, scale;"
        " 1 tensors of the wrong shape: weight is (3, 2), not (2, 2)"
    )


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (torch.ones(2, 2, dtype=torch.int8), "1 tensors of the wrong type: weight is int8"),
        (torch.ones(2, 2).to(torch.float8_e4m3fn), "1 tensors of the wrong type: weight is float8_e4m3fn"),
        (torch.tensor([[1.0, torch.nan], [0, 0]]), "1 tensors not finite: weight"),
        (torch.tensor([[1.0, -torch.inf], [0, 0]]).bfloat16(), "1 tensors not finite: weight"),
    ],
)
def test_numbers_that_cannot_be_weights_are_named(bad, complaint):
    with pytest.raises(ModelError, match=rf"^F does not fit its model: {complaint}$"):
        load_weights(nn.Linear(2, 2, bias=False), {"weight": bad}, source="F")


def test_an_error_over_many_tensors_stays_short():
    with pytest.raises(ModelError) as caught:
        refuse_misfits("F", missing=[f"text.layer.{n:03}.weight" for n in range(199)])
    assert str(caught.value) == (
        "F does not fit its model: 199 tensors missing: text.layer.000.weight, text.layer.001.weight,"
        " text.layer.002.weight, text.layer.003.weight, text.layer.004.weight and 194 more"
    )


def test_a_fused_tensor_has_the_shape_of_three():
    with pytest.raises(ModelError, match=r"qkv\.weight is \(2, 2\), not \(6, 2\)"):
        load_weights(Attention(), {"qkv.weight": torch.ones(2, 2)}, source="F", native_name=qkv)


def test_a_missing_tensor_gives_the_default_size():
    assert dim({"a": torch.ones(3, 4)}, "a", 1, default=9) == 4
    assert dim({}, "a", 1, default=9) == 9


def test_a_cut_off_safetensors_file_is_named(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(100)}, file)
    file.write_bytes(file.read_bytes()[:-10])

    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_safetensors([file])


def test_a_tensor_in_two_files_is_named(tmp_path):
    for name in "ab":
        save_file({"shared": torch.ones(2), name: torch.ones(2)}, tmp_path / name)

    with pytest.raises(ModelError, match=r"b repeats tensors of a file beside it: shared$"):
        read_safetensors([tmp_path / "a", tmp_path / "b"])


def tokenizer(**special):
    vocab = {token: index for index, token in enumerate(["<s>", "</s>", "dog", "cat"])}
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(vocab, unk_token="dog")), **special)
    words.add_special_tokens({"pad_token": "[PAD]"})
    return words


def test_ids_without_an_embedding_are_refused():
    check_vocabulary(tokenizer(eos_token="</s>"), 4, source="T")

    with pytest.raises(ModelError, match=r"^T has ids up to 3, its model has embeddings for 3$"):
        check_vocabulary(tokenizer(eos_token="</s>"), 3, source="T")


def test_a_padding_token_needs_no_embedding_but_one_that_ends_answers_does():
    check_vocabulary(tokenizer(eos_token="</s>"), 4, source="T")

    with pytest.raises(ModelError, match="has ids up to 4"):
        check_vocabulary(tokenizer(eos_token="<end>"), 4, source="T")


def test_the_hash_is_that_of_the_bytes(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")

    assert hash_files([file]) == "ba7816bf8f01cfea"
