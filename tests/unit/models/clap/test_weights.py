"""A state dict fits its module exactly, or every name that does not is reported."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mats_ray.errors import ModelError
from mats_ray.models.clap.weights import NativeName, dim, hash_files, load_weights, read_safetensors


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(2, 2, bias=False) for _ in range(3))
        self.register_buffer("relative_position_index", torch.arange(4))


def qkv(name):
    parts = {"query.weight": 0, "key.weight": 1, "value.weight": 2}
    return NativeName("qkv.weight", third=parts[name]) if name in parts else NativeName(name)


def test_thirds_of_a_fused_tensor_are_told_apart():
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


def test_the_hash_is_that_of_the_bytes(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")

    assert hash_files([file]) == "ba7816bf8f01cfea"
