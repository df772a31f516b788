"""The stand-in has the tensors of MS-CLAP's published file, and loads as one."""

import numpy as np
import pytest
import torch

from mats_ray.models.clap import load_clap
from mats_ray.models.stand_in import is_stand_in
from mats_ray.rehearsal.msclap_stand_in import msclap_state, write_msclap
from tests.golden.clap_checkpoints import grow, parse
from tests.golden.recipe import GOLDEN

MASKS = (".attn.bias", ".attn.masked_bias")


def published_keys():
    """Names and shapes that the reference program gave its tensors."""
    audio, text = (np.load(next(GOLDEN.glob(f"msclap_{part}_*.npz"))) for part in ("audio", "text"))

    def resize(name, shape):
        if name.endswith("wte.weight"):
            return (50257, 768)
        return tuple(3072 if size == 512 else size for size in shape)

    small = parse(text["native_keys_small"])
    return parse(audio["native_keys"]) | grow(
        small, r"caption_encoder\.base\.h", num_layers=12, resize=resize
    )


def test_names_shapes_and_types_are_the_published_ones():
    state = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in msclap_state()}

    assert {name: of for name, of in state.items() if not name.endswith(MASKS)} == {
        name: of for name, of in published_keys().items() if not name.endswith(MASKS)
    }


def test_it_loads_and_embeds(tmp_path):
    file = write_msclap(tmp_path / "clap")

    clap = load_clap(file)
    audio = clap.encode_audio([np.sin(np.arange(44_100) / 20).astype(np.float32)], 44_100)

    assert (clap.identity.family, clap.dim) == ("msclap", 1024)
    assert file.stat().st_size == pytest.approx(690e6, rel=0.002)
    assert torch.isfinite(audio).all()
    assert is_stand_in(str(file))
