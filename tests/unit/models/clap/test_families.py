"""Published files are recognised by their tensors; wrappers around the state dict are removed."""

import re
from dataclasses import replace

import pytest
import torch

from mats_ray.errors import ModelError
from mats_ray.models.clap import LogMel, convert_clap, families, load_clap, msclap
from mats_ray.models.clap.families import read_checkpoint
from tests.unit.models.clap.small import laion_state, msclap_state, noise, save_laion, save_msclap


def test_the_family_is_recognised_by_content_not_by_name(tmp_path):
    laion = save_laion(tmp_path / "CLAP_weights_2023.pth", laion_state())
    msclap = save_msclap(tmp_path / "630k-audioset-best.pt", msclap_state())

    assert load_clap(laion).identity.family == "laion"
    assert load_clap(msclap).identity.family == "msclap"


def test_a_bare_state_dict_is_read_too(tmp_path, laion_file):
    bare = tmp_path / "bare.pt"
    torch.save(laion_state(), bare)
    clips = noise(50_000)

    torch.testing.assert_close(
        load_clap(bare).encode_audio(clips, 48_000), load_clap(laion_file).encode_audio(clips, 48_000)
    )


def test_the_error_of_a_file_without_a_clap_names_its_content(tmp_path):
    file = save_msclap(tmp_path / "mats.pth", {"audio_mapper.linear.weight": torch.ones(2)})

    with pytest.raises(ModelError, match=r"mats\.pth holds neither .* audio_mapper"):
        read_checkpoint(file)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([torch.ones(2)], "holds a list"),
        ({"state_dict": {"audio_branch.bn0.weight": 3}}, "not tensors"),
        ({3: torch.ones(2)}, "not tensors: 3"),
    ],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content, complaint):
    torch.save(content, tmp_path / "file.pt")

    with pytest.raises(ModelError, match=complaint):
        read_checkpoint(tmp_path / "file.pt")


@pytest.mark.parametrize(
    ("make", "save", "gone", "misshaped"),
    [
        (
            laion_state,
            save_laion,
            ["audio_branch.layers.1.blocks.1.attn.qkv.weight", "text_branch.pooler.dense.bias"],
            "audio_projection.0.weight",
        ),
        (
            msclap_state,
            save_msclap,
            ["audio_encoder.base.htsat.norm.bias", "caption_encoder.base.h.1.mlp.c_fc.bias"],
            "caption_encoder.projection.linear2.weight",
        ),
    ],
    ids=["laion", "msclap"],
)
def test_every_tensor_that_does_not_fit_is_named_as_in_the_file(tmp_path, make, save, gone, misshaped):
    state = make()
    for name in gone:
        del state[name]
    state[misshaped] = torch.ones(5, 7)
    extra = misshaped.replace(".weight", ".gain")
    state[extra] = torch.ones(1)

    with pytest.raises(ModelError) as caught:
        load_clap(save(tmp_path / "file.pt", state))
    for part in (*gone, extra, rf"{misshaped} is (5, 7), not"):
        assert re.search(re.escape(part), str(caught.value))


def test_a_family_is_a_row_of_the_table(tmp_path, monkeypatch):
    def renamed(state, source):
        return msclap.build_msclap({name.removeprefix("new."): part for name, part in state.items()}, source)

    new = replace(
        msclap.MSCLAP,
        name="new",
        title="a new CLAP",
        recognises=lambda names: all(name.startswith("new.") for name in names),
        build=renamed,
        log_mel=lambda settings, *_: LogMel.from_settings(settings),
    )
    for module in ("families", "load"):
        monkeypatch.setattr(f"mats_ray.models.clap.{module}.FAMILIES", (*families.FAMILIES[:2], new))
    file = save_msclap(tmp_path / "new.pt", {f"new.{name}": part for name, part in msclap_state().items()})
    clips = noise(50_000)

    report = convert_clap(file, tmp_path / "converted")
    loaded, converted = load_clap(file), load_clap(tmp_path / "converted")

    assert report.family == loaded.identity.family == converted.identity.family == "new"
    assert torch.equal(loaded.encode_audio(clips, 48_000), converted.encode_audio(clips, 48_000))
