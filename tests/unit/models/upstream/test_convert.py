"""A released checkpoint becomes a model directory that answers as the model it was saved from."""

import json

import pytest
import torch

from mats_ray.errors import ModelError
from mats_ray.models.directory import SANTA, load_model, read_info
from mats_ray.models.prompt_format import VICUNA
from mats_ray.models.santa import SantaMemory
from mats_ray.models.upstream.convert import UpstreamOptions, convert_upstream
from tests.unit.models.clap.small import msclap_state, save_msclap
from tests.unit.models.upstream.small import base_models, frozen_of, save, state_of, trained
from tests.world import CLAP_DIM


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Base models and a trained model on them, used by all tests and changed by none."""
    folder = tmp_path_factory.mktemp("home")
    bases = base_models(folder)
    return folder, bases, *trained(folder)


def convert(tmp_path, home, state, **options):
    return convert_upstream(save(tmp_path, state), tmp_path / "out", UpstreamOptions(**home[1], **options))


def answers(model, prompts):
    clap = torch.randn(3, CLAP_DIM, generator=torch.Generator().manual_seed(2))
    questions = ["What is it?", "Is there a dog?", "dog?"]
    return model.generate(clap, [prompts.after(question) for question in questions], max_new_tokens=12)


def test_it_answers_as_the_model_it_was_saved_from(home, tmp_path):
    report = convert(tmp_path, home, state_of(home[2]))

    info = read_info(tmp_path / "out")
    assert answers(*load_model(info)) == answers(*home[2:])
    assert not info.santa.enabled
    assert info.generation.profile == "paper"
    assert info.clap.dim == CLAP_DIM
    assert info.prompt == VICUNA
    assert report.unused == sorted(
        [
            "ln_audio.bias",
            "ln_audio.weight",
            "llama_model.base_model.model.model.layers.0.self_attn.rotary_emb.inv_freq",
        ]
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_half_precision_language_model_answers(home, tmp_path, dtype):
    convert(tmp_path, home, state_of(home[2]), dtype=dtype)

    found = answers(*load_model(read_info(tmp_path / "out")))

    exact = answers(*home[2:])
    assert [one.ids[:1] for one in found] == [one.ids[:1] for one in exact]
    assert all(one.ids for one in found)


def test_the_mlp_mapper_converts_too(home, tmp_path):
    model, prompts = trained(home[0], mapper="mlp")

    convert(tmp_path, home, state_of(model))

    assert answers(*load_model(read_info(tmp_path / "out"))) == answers(model, prompts)


@pytest.mark.parametrize("layer", ["", ".base_layer"], ids=["peft 0.6", "peft 0.12"])
def test_base_weights_that_are_the_same_are_not_stored_again(home, tmp_path, layer):
    report = convert(tmp_path, home, state_of(home[2]) | frozen_of(home[2], layer=layer))

    assert len(report.llm_equal) == len(frozen_of(home[2]))
    assert not report.llm_different
    assert not (tmp_path / "out" / "llm").exists()
    assert answers(*load_model(read_info(tmp_path / "out"))) == answers(*home[2:])


def test_base_weights_of_its_own_are_saved_with_the_model(home, tmp_path):
    model, prompts = trained(home[0])
    with torch.no_grad():
        model.llm.get_base_model().lm_head.weight.mul_(-1)

    report = convert(tmp_path, home, state_of(model) | frozen_of(model))

    assert report.llm_different == ["lm_head.weight"]
    (tmp_path / "out").rename(tmp_path / "moved")
    assert answers(*load_model(read_info(tmp_path / "moved"))) == answers(model, prompts)
    assert answers(model, prompts) != answers(*home[2:])


@pytest.mark.parametrize(("compat", "noise"), [("paper", 0.0), ("upstream", 0.015)])
def test_a_memory_is_copied(home, tmp_path, compat, noise):
    rows = torch.randn(40, CLAP_DIM, generator=torch.Generator().manual_seed(0))
    torch.save(list(rows), tmp_path / "memory.pt")

    report = convert(tmp_path, home, state_of(home[2]), santa=tmp_path / "memory.pt", compat=compat)

    santa = read_info(tmp_path / "out").santa
    assert (santa.enabled, santa.compat, santa.neighbour_noise_variance) == (True, compat, noise)
    memory = SantaMemory.load(tmp_path / "out" / SANTA)
    assert len(memory.embeddings_NC) == report.memory_rows == 40


def test_the_report_lists_every_tensor(home, tmp_path):
    state = state_of(home[2]) | frozen_of(home[2])

    report = convert(tmp_path, home, state)

    kept = json.loads((tmp_path / "out" / "conversion.json").read_text())
    lists = ("connector", "lora", "llm_equal", "llm_different", "clap_left_out", "unused")
    assert sum(len(kept[name]) for name in lists) == len(state)
    assert kept["source"] == "mats.pth"
    assert f"{len(report.connector)} tensors; LoRA: {len(report.lora)}" in str(report)
    assert "Santa is off" in str(report)


def test_a_clap_that_is_not_the_checkpoints_is_reported(tmp_path):
    base_models(tmp_path)
    state = msclap_state()
    save_msclap(tmp_path / "CLAP.pth", state)
    dim = len(state["audio_encoder.projection.linear1.weight"])
    model, _ = trained(tmp_path, clap_dim=dim)
    stats = {name: tensor for name, tensor in state.items() if ".bn0.running_" in name}
    own = {
        name: tensor
        for name, tensor in state_of(model).items()
        if not name.startswith(("audio_enc", "clap_"))
    }

    reports = [
        convert_upstream(
            save(tmp_path, own | {name: tensor + change for name, tensor in stats.items()}),
            tmp_path / f"out{change}",
            UpstreamOptions(clap=str(tmp_path / "CLAP.pth"), llm=str(tmp_path / "llm")),
        )
        for change in (0, 1)
    ]

    assert reports[0].clap_different == []
    assert "WARNING" not in str(reports[0])
    assert reports[1].clap_different == sorted(stats)
    assert "WARNING: CLAP in the checkpoint is not the one referred to" in str(reports[1])


def test_an_unknown_tensor_is_refused_by_name_and_nothing_is_written(home, tmp_path):
    with pytest.raises(ModelError, match=r"belong to no part of MATS: speech_encoder\.weight"):
        convert(tmp_path, home, state_of(home[2]) | {"speech_encoder.weight": torch.ones(1)})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"audio_mapper.transformer.layers.1.norm2.bias": None},
            r"missing: audio_mapper\..*\.1\.norm2\.bias",
        ),
        ({"audio_mapper.extra": torch.ones(1)}, r"unknown: audio_mapper\.extra"),
        ({"audio_llama_proj.bias": torch.ones(5)}, r"audio_llama_proj\.bias is \(5,\), not \(32,\)"),
    ],
    ids=["missing", "extra", "mis-shaped"],
)
def test_a_mapper_that_does_not_fit_is_refused_by_name(home, tmp_path, change, expected):
    state = {name: tensor for name, tensor in (state_of(home[2]) | change).items() if tensor is not None}

    with pytest.raises(ModelError, match=expected):
        convert(tmp_path, home, state)
    assert not (tmp_path / "out").exists()


def test_another_clap_than_the_mappers_is_refused(home, tmp_path):
    model, _ = trained(home[0], clap_dim=9)

    with pytest.raises(ModelError, match=r"was trained with a 9-d CLAP; .* \(24-d\)"):
        convert(tmp_path, home, state_of(model))


def test_a_directory_with_something_in_it_is_left_alone(home, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("mine")

    with pytest.raises(ModelError, match="out is not empty"):
        convert(tmp_path, home, state_of(home[2]))


def test_a_missing_file_is_named(home, tmp_path):
    with pytest.raises(ModelError, match=r"no such file: .*none\.pth"):
        convert_upstream(tmp_path / "none.pth", tmp_path / "out", UpstreamOptions(**home[1]))
