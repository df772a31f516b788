"""A directory in transformers' format is loaded, or the error names what is missing in it."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapProcessor

from mats_ray.errors import ModelError
from mats_ray.models.clap import load_clap
from mats_ray.models.clap.transformers_clap import TransformersTowers
from tests.unit.models.clap.small import directory_clap, noise, save_directory


@pytest.fixture
def broken(clap_dir, tmp_path):
    return shutil.copytree(clap_dir, tmp_path / "clap")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_missing_file_is_named(broken, name):
    (broken / name).unlink()

    with pytest.raises(ModelError, match=r"no .*" + name.rsplit(".", 1)[1]) as caught:
        load_clap(broken)
    assert str(broken) in str(caught.value)


def test_a_file_that_is_not_json_is_named(broken):
    (broken / "config.json").write_text("{")

    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        load_clap(broken)


def test_another_kind_of_model_is_refused(broken):
    (broken / "config.json").write_text(json.dumps({"model_type": "llama"}))

    with pytest.raises(ModelError, match="'llama'"):
        load_clap(broken)


def test_missing_tensors_are_named(broken):
    state = load_file(broken / "model.safetensors")
    del state["audio_projection.linear1.bias"], state["text_model.pooler.dense.weight"]
    save_file(state, broken / "model.safetensors")

    with pytest.raises(
        ModelError, match=r"missing: audio_projection\.linear1\.bias, text_model\.pooler\.dense\.weight"
    ):
        load_clap(broken)


def test_a_checkpoint_without_its_text_tower_is_one_short_error(broken):
    state = load_file(broken / "model.safetensors")
    audio = {name: tensor for name, tensor in state.items() if not name.startswith("text_model.")}
    save_file(audio, broken / "model.safetensors")

    with pytest.raises(ModelError, match=r"\d\d tensors missing: text_model\..* and \d+ more$") as caught:
        load_clap(broken)
    assert len(str(caught.value)) < 600


def test_weights_that_are_not_numbers_are_named(broken):
    state = load_file(broken / "model.safetensors")
    state["audio_projection.linear1.bias"][0] = torch.nan
    state["text_projection.linear1.bias"] = state["text_projection.linear1.bias"].char()
    save_file(state, broken / "model.safetensors")

    with pytest.raises(
        ModelError, match=r"type: text_projection\.linear1\.bias is int8; .* not finite: audio_projection"
    ):
        load_clap(broken)


def test_one_weight_in_two_files_is_refused(broken):
    shutil.copy(broken / "model.safetensors", broken / "model.old.safetensors")

    with pytest.raises(ModelError, match=r"model\.safetensors repeats tensors of a file beside it"):
        load_clap(broken)


def test_one_weight_in_two_pickles_is_refused(broken):
    state = load_file(broken / "model.safetensors")
    (broken / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "pytorch_model-00001-of-00001.bin"):
        torch.save(state, broken / name)

    with pytest.raises(ModelError, match=r"pytorch_model\.bin repeats tensors of a file beside it"):
        load_clap(broken)


def test_an_index_that_names_a_shard_which_is_not_there_is_named(broken):
    (broken / "model.safetensors").rename(broken / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (broken / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))

    with pytest.raises(
        ModelError, match=r"names 1 files that are not there: model-00002-of-00002\.safetensors"
    ):
        load_clap(broken)


def test_settings_that_make_no_sense_are_named(broken):
    config = json.loads((broken / "config.json").read_text())
    config["audio_config"]["patch_embeds_hidden_size"] = "wide"
    (broken / "config.json").write_text(json.dumps(config))

    with pytest.raises(
        ModelError, match=rf"the CLAP in {broken} cannot be loaded: .*patch_embeds_hidden_size"
    ):
        load_clap(broken)


def test_what_transformers_processor_saves_is_the_same_front_end(broken, clap_dir):
    (broken / "preprocessor_config.json").unlink()
    parts = ClapFeatureExtractor.from_pretrained(clap_dir), AutoTokenizer.from_pretrained(clap_dir)
    ClapProcessor(*parts).save_pretrained(broken)
    assert not (broken / "preprocessor_config.json").exists()
    clip = noise(20_000)

    one, other = load_clap(clap_dir), load_clap(broken)

    assert torch.equal(other.encode_audio(clip, 16_000), one.encode_audio(clip, 16_000))
    assert torch.equal(other.encode_text(["a dog barks"]), one.encode_text(["a dog barks"]))


def test_laions_untrained_model_is_refused_by_what_its_settings_call_it(broken):
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"_name_or_path": "laion/larger_clap_music"}))

    with pytest.raises(ModelError, match=r"untrained projection.*music_audioset_epoch_15_esc_90\.14\.pt"):
        load_clap(broken)


def test_a_front_end_for_fusion_models_is_refused_for_others(tmp_path):
    with pytest.raises(ModelError, match="rand_trunc"):
        load_clap(save_directory(tmp_path, truncation="fusion"))


def test_weights_in_several_files_or_as_a_pickle_are_the_same_model(broken, clap_dir):
    expected = load_clap(clap_dir).encode_text(["a dog barks"])
    state = load_file(broken / "model.safetensors")
    (broken / "model.safetensors").unlink()
    torch.save(state, broken / "pytorch_model.bin")
    pickled = load_clap(broken)
    (broken / "pytorch_model.bin").unlink()
    names = sorted(state)
    save_file({name: state[name] for name in names[:9]}, broken / "model-00001-of-00002.safetensors")
    save_file({name: state[name] for name in names[9:]}, broken / "model-00002-of-00002.safetensors")
    split = load_clap(broken)

    assert torch.equal(pickled.encode_text(["a dog barks"]), expected)
    assert torch.equal(split.encode_text(["a dog barks"]), expected)


def test_the_identity_follows_the_weights(broken, clap_dir):
    state = load_file(broken / "model.safetensors")
    state["audio_projection.linear1.bias"] += 1
    save_file(state, broken / "model.safetensors")

    assert load_clap(broken).identity != load_clap(clap_dir).identity


def test_towers_give_the_directions_of_transformers_embeddings():
    clap = directory_clap()
    towers = TransformersTowers(clap)
    ids = torch.tensor([[0, 5, 6, 2]])
    mel = torch.randn(1, 1, 126, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        text = towers.embed_text(ids, torch.ones_like(ids))
        audio = towers.embed_audio(mel, torch.zeros(1, dtype=torch.bool))

        for ours, theirs in (
            (text, clap.get_text_features(ids).pooler_output),
            (audio, clap.get_audio_features(mel).pooler_output),
        ):
            torch.testing.assert_close(ours / ours.norm(), theirs, atol=1e-6, rtol=0)
