"""A run starts from an earlier model: what is compared, what is loaded, and in which precision."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from mats_ray.errors import ModelError, TrainingError
from mats_ray.models.build import build_mats
from mats_ray.models.directory import MAPPER, save_model
from mats_ray.models.llm import load_llm, load_tokenizer
from mats_ray.storage import upload
from mats_ray.train.export import model_settings
from mats_ray.train.init_from import check_init_from, initial_hash, initial_state
from mats_ray.types import CLAPIdentity
from tests.s3 import s3_server
from tests.unit.train.small import CLAP_DIM, fresh_engine, small_run, stream, update

IDENTITY = CLAPIdentity(family="transformers", checkpoint_hash="0" * 16, dim=CLAP_DIM)


def trained_model(config, directory, home=None):
    """Train one step and save the model; return its state."""
    model, prompts = build_mats(config.model, llm_path=config.llm_path, seed=config.seed)
    engine = fresh_engine(config)
    update(engine, list(stream(config, num_steps=1)), lr=0.01)
    state = engine.state()
    save_model(directory, model, prompts, model_settings(config, IDENTITY), home=home, trained=state.trained)
    return state


def started(config):
    """Return the state an engine has after it has taken up ``train.init_from``."""
    model, _ = build_mats(config.model, llm_path=config.llm_path, seed=config.seed)
    engine = fresh_engine(config)
    engine.load_state(initial_state(config, model))
    return engine.state()


@pytest.fixture
def config(llm_path, tmp_path):
    return small_run(
        llm_path, output_dir=str(tmp_path / "out"), train={"init_from": str(tmp_path / "earlier")}, seed=1
    )


@pytest.fixture
def earlier(config, tmp_path):
    """The model directory that the configuration starts from."""
    trained_model(config.replace(name="first", seed=0), tmp_path / "earlier")
    return tmp_path / "earlier"


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_weights_are_the_earlier_models_and_the_optimizer_is_new(config, tmp_path, kind):
    config = config.replace(model={"llm": {"train": kind}})
    before = trained_model(config.replace(name="first", seed=0), tmp_path / "earlier")

    assert check_init_from(config, IDENTITY) == initial_hash(config)
    state = started(config)

    assert state.num_updates == 0
    assert state.trained.keys() == before.trained.keys()
    assert all(torch.equal(state.trained[name], t) for name, t in before.trained.items())
    assert not any(moment.any() for moment in state.moments.values())


def test_weights_stored_in_half_precision_are_read_into_float32(config, earlier):
    half = {name: tensor.bfloat16() for name, tensor in load_file(earlier / MAPPER).items()}
    save_file(half, earlier / MAPPER)

    state = started(config)

    assert {tensor.dtype for tensor in state.trained.values()} == {torch.float32}
    assert all(torch.equal(state.trained[f"connector.{name}"], t.float()) for name, t in half.items())


def test_a_model_on_s3_is_the_same_model(config, earlier):
    local, expected = initial_hash(config), started(config)
    trained_model(config.replace(name="first", seed=0), earlier, home="s3://models/first")
    with s3_server("models"):
        upload(earlier, "s3://models/first")
        config = config.replace(train={"init_from": "s3://models/first/"})

        assert check_init_from(config, IDENTITY) == local
        assert all(torch.equal(t, expected.trained[name]) for name, t in started(config).trained.items())
        with pytest.raises(ModelError, match=r"train\.init_from: s3://models/none is not a model directory"):
            check_init_from(config.replace(train={"init_from": "s3://models/none"}), IDENTITY)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mapper": {"num_layers": 2}}, r"model\.mapper\.num_layers was 1, is 2"),
        ({"llm": {"train": "full"}}, r"model\.llm\.train was lora, is full"),
        (
            {"llm": {"lora": {"rank": 4, "alpha": 16}}},
            r"lora\.alpha was 32\.0, is 16\.0, .*lora\.rank was 2, is 4",
        ),
        ({"llm": {"lora": {"target_modules": ["q_proj"]}}}, r"target_modules was \['q_proj', 'v_proj'\], is"),
    ],
)
def test_another_architecture_is_refused_with_every_key(config, earlier, changes, named):
    with pytest.raises(
        TrainingError, match=rf"init_from=\S+earlier does not fit this run: .*{named}.*; use its"
    ):
        check_init_from(config.replace(model=changes), IDENTITY)


def test_another_clap_is_refused_with_both_hashes(config, earlier):
    other = CLAPIdentity(family="laion", checkpoint_hash="1" * 16, dim=CLAP_DIM)

    with pytest.raises(
        TrainingError, match=r"model\.clap was transformers CLAP 0{16} .*, is laion CLAP 1{16} "
    ):
        check_init_from(config, other)


def test_a_copy_of_the_language_model_fits_and_another_does_not(config, earlier, llm_path, tmp_path):
    copy = shutil.copytree(llm_path, tmp_path / "llm")
    config = config.replace(model={"llm": {"path": str(copy)}})
    assert check_init_from(config, IDENTITY) == initial_hash(config)

    llm = load_llm(llm_path)
    llm.model.norm.weight.data.add_(1e-3)
    llm.save_pretrained(copy)

    with pytest.raises(TrainingError, match=r"model\.llm was \w{16}, is \w{16}; use its"):
        check_init_from(config, IDENTITY)


def test_another_tokenizer_is_refused(config, earlier):
    tokenizer = load_tokenizer(str(earlier))
    tokenizer.add_tokens(["<sneeze>"])
    tokenizer.save_pretrained(earlier)

    with pytest.raises(
        TrainingError, match=r"the tokenizer, \d+ entries there, \d+ here, e\.g\. <sneeze> was"
    ):
        check_init_from(config, IDENTITY)


def test_another_prompt_is_refused(config, earlier):
    tree = json.loads((earlier / "config.json").read_text())
    tree["prompt"]["before"] = "HUMAN: <Speech>"
    (earlier / "config.json").write_text(json.dumps(tree))

    with pytest.raises(
        TrainingError, match=r"model\.llm\.prompt_format was vicuna \(\w{8}\), is vicuna; use its"
    ):
        check_init_from(config, IDENTITY)


def test_a_language_model_trained_whole_must_have_the_same_shape(config, llm_path, tmp_path):
    config = config.replace(model={"llm": {"train": "full"}})
    trained_model(config.replace(name="first"), tmp_path / "earlier")
    other = shutil.copytree(llm_path, tmp_path / "llm")
    tree = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(tree | {"num_hidden_layers": 9}))

    with pytest.raises(TrainingError, match=r"language model's num_hidden_layers was \d, is 9"):
        check_init_from(config.replace(model={"llm": {"path": str(other)}}), IDENTITY)


def test_a_tensor_that_is_missing_or_not_finite_is_named(config, earlier):
    tensors = load_file(earlier / MAPPER)
    name, tensor = next(iter(tensors.items()))
    tensor.view(-1)[0] = float("nan")
    save_file(tensors, earlier / MAPPER)
    with pytest.raises(ModelError, match=rf"1 tensors not finite: connector\.{name}"):
        started(config)

    save_file({one: t for one, t in tensors.items() if one != name}, earlier / MAPPER)
    with pytest.raises(ModelError, match=rf"1 tensors missing: connector\.{name}"):
        started(config)

    (earlier / MAPPER).unlink()
    with pytest.raises(ModelError, match=r"train\.init_from: the model 'first' has no mapper\.safetensors"):
        check_init_from(config, IDENTITY)


def test_what_is_no_model_directory_is_named(config):
    with pytest.raises(ModelError, match=r"train\.init_from: no model directory at \S+earlier"):
        check_init_from(config, IDENTITY)


def test_the_runs_own_model_directory_is_refused(config):
    with pytest.raises(
        TrainingError, match=r"init_from=\S+ is where this run's own model goes; give the run"
    ):
        check_init_from(config.replace(train={"init_from": f"{config.output_dir}/model/"}), IDENTITY)


def test_without_the_key_there_is_nothing_to_compare(llm_path):
    config = small_run(llm_path)

    assert check_init_from(config, IDENTITY) is None
    assert initial_hash(config) is None
    assert initial_state(config, build_mats(config.model, llm_path=llm_path, seed=0)[0]) is None
