"""A model directory loads as it was saved, moves as a folder, and its errors are one line."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from mats_ray.config.generation import GenerationConfig
from mats_ray.config.model import CLAPConfig, LLMConfig, LoRAConfig, MapperConfig, ModelConfig
from mats_ray.config.santa import SantaConfig
from mats_ray.errors import ModelError
from mats_ray.models.build import build_mats
from mats_ray.models.directory import ModelSettings, load_model, read_info, save_model
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.models.prompt_format import VICUNA
from mats_ray.types import CLAPIdentity
from tests.unit.models.chat_tokenizers import tiny_chat_llm
from tests.world import tiny_llm

CLAP = CLAPIdentity(family="toy", checkpoint_hash="0123456789abcdef", dim=6)


def settings(llm_path, train="lora", mapper="transformer", dtype="float32"):
    return ModelSettings(
        name="tiny",
        version="1.2.3",
        model=ModelConfig(
            clap=CLAPConfig(ref="org/clap", dim=6),
            mapper=MapperConfig(
                type=mapper, hidden_dim=8, num_layers=1, num_heads=2, prefix_length=3, content_length=2
            ),
            llm=LLMConfig(path=str(llm_path), train=train, dtype=dtype, lora=LoRAConfig(rank=2)),
        ),
        santa=SantaConfig(num_neighbours=5, compat="upstream", neighbour_noise_variance=0.015),
        generation=GenerationConfig(profile="fast", max_new_tokens=9),
        clap=CLAP,
    )


def save(folder, train="lora", mapper="transformer", dtype="float32"):
    """Base model and model directory side by side, the trained parts away from their start."""
    of = settings(tiny_llm(folder / "llm"), train, mapper, dtype)
    model, prompts = build_mats(of.model, llm_path=str(folder / "llm"), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    save_model(folder / "model", model, prompts, of)
    return model.eval(), prompts


def answers(model, prompts):
    clap = torch.randn(2, 6, generator=torch.Generator().manual_seed(2))
    return model.generate(clap, [prompts.after("What is it?"), prompts.after("dog?")], max_new_tokens=10)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "home")
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("train", "mapper", "dtype"),
    [
        ("lora", "transformer", "float32"),
        ("full", "transformer", "float32"),
        ("lora", "mlp", "float32"),
        ("lora", "transformer", "bfloat16"),
        ("lora", "transformer", "float16"),
        ("full", "transformer", "bfloat16"),
        ("full", "transformer", "float16"),
    ],
)
def test_what_was_saved_comes_back(tmp_path, train, mapper, dtype):
    model, prompts = save(tmp_path, train, mapper, dtype)

    info = read_info(tmp_path / "model")
    loaded, loaded_prompts = load_model(info)

    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {name: t.dtype for name, t in ours.items()} == {name: t.dtype for name, t in theirs.items()}
    assert answers(loaded, loaded_prompts) == answers(model, prompts)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not loaded.training


def test_the_settings_come_back(folder):
    info, expected = read_info(folder / "model"), settings(folder / "llm")

    for field in ("name", "version", "santa", "generation", "clap"):
        assert getattr(info, field) == getattr(expected, field)
    assert info.model == expected.model
    assert info.model_id.startswith("tiny@")


@pytest.mark.parametrize("train", ["lora", "full"])
def test_a_folder_with_everything_in_it_can_be_moved(tmp_path, train):
    model, prompts = save(tmp_path / "home", train)
    (tmp_path / "home").rename(tmp_path / "elsewhere")

    info = read_info(tmp_path / "elsewhere" / "model")

    assert info.model.llm.path.startswith(str(tmp_path / "elsewhere"))
    assert answers(*load_model(info)) == answers(model, prompts)


def test_a_model_trained_whole_needs_no_base(tmp_path):
    model, prompts = save(tmp_path, "full")
    shutil.rmtree(tmp_path / "llm")

    assert answers(*load_model(read_info(tmp_path / "model"))) == answers(model, prompts)


def test_nothing_in_it_names_the_place_it_was_made(folder):
    for file in ("config.json", "generation_config.json", "adapter_config.json"):
        assert str(folder) not in (folder / "model" / file).read_text()


def test_a_hub_id_stays_one(folder):
    assert json.loads((folder / "model" / "config.json").read_text())["model"]["clap"]["ref"] == "org/clap"


def test_claps_tokenizer_moves_with_the_folder(tmp_path):
    (tmp_path / "home" / "words").mkdir(parents=True)
    of = settings(tiny_llm(tmp_path / "home" / "llm"))
    clap = of.model.clap.model_copy(update={"tokenizer": str(tmp_path / "home" / "words")})
    model, prompts = build_mats(of.model, llm_path=str(tmp_path / "home" / "llm"), seed=0)
    of = replace(of, model=of.model.model_copy(update={"clap": clap}))
    save_model(tmp_path / "home" / "model", model, prompts, of)
    (tmp_path / "home").rename(tmp_path / "elsewhere")

    info = read_info(tmp_path / "elsewhere" / "model")

    assert info.model.clap.tokenizer == str(tmp_path / "elsewhere" / "words")


def test_the_adapter_loads_in_plain_peft(folder):
    model, _ = load_model(read_info(folder / "model"))

    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder / "llm"), folder / "model"
    ).eval()
    ids = AutoTokenizer.from_pretrained(folder / "model")("a dog barks", return_tensors="pt")["input_ids"]

    torch.testing.assert_close(plain(ids).logits, model.llm(ids).logits)


def test_weights_are_safetensors_in_single_precision_and_nothing_is_pickled(folder):
    files = {path.name for path in (folder / "model").iterdir()}

    assert {"mapper.safetensors", "adapter_model.safetensors", "adapter_config.json", "config.json"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    with safe_open(folder / "model" / "mapper.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float32}  # noqa: SIM118


def test_the_model_id_follows_the_weights(folder):
    before = read_info(folder / "model").model_id
    assert read_info(folder / "model").model_id == before

    path = folder / "model" / "mapper.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"audio_llama_proj.bias": tensors["audio_llama_proj.bias"] + 1}, path)

    assert read_info(folder / "model").model_id != before


def test_the_model_id_follows_every_shard(tmp_path):
    save(tmp_path, "full")
    AutoModelForCausalLM.from_pretrained(tmp_path / "model" / "llm").save_pretrained(
        tmp_path / "model" / "llm", max_shard_size="20KB"
    )
    before = read_info(tmp_path / "model").model_id

    last = max((tmp_path / "model" / "llm").glob("model-*.safetensors"))
    save_file({name: tensor + 1 for name, tensor in load_file(last).items()}, last)

    assert read_info(tmp_path / "model").model_id != before


@pytest.mark.parametrize("size", [4, 100, -20])
@pytest.mark.parametrize("file", ["mapper.safetensors", "adapter_model.safetensors"])
def test_cut_off_weights_are_one_clear_error(folder, file, size):
    path = folder / "model" / file
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(ModelError, match=r"cannot be (read|loaded)"):
        load_model(read_info(folder / "model"))


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("size", [0, 40])
def test_cut_off_settings_are_one_clear_error(folder, file, size):
    path = folder / "model" / file
    path.write_text(path.read_text()[:size])

    with pytest.raises(ModelError, match=rf"{file} is not JSON \(cut off\?\)"):
        read_info(folder / "model")


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_a_directory_without_settings_is_none(folder, file):
    (folder / "model" / file).unlink()

    with pytest.raises(ModelError, match=f"is not a model directory: it has no {file}"):
        read_info(folder / "model")


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"no model directory at .*nothing"):
        read_info(tmp_path / "nothing")


def test_a_missing_mapper_is_named(folder):
    (folder / "model" / "mapper.safetensors").unlink()

    with pytest.raises(ModelError, match=r"no mapper\.safetensors in "):
        load_model(read_info(folder / "model"))


def test_a_missing_adapter_is_named(folder):
    (folder / "model" / "adapter_model.safetensors").unlink()

    with pytest.raises(ModelError, match=r"the adapter in .* cannot be loaded"):
        load_model(read_info(folder / "model"))


def test_a_missing_language_model_is_named(folder):
    shutil.rmtree(folder / "llm")

    with pytest.raises(ModelError, match=r"llm"):
        load_model(read_info(folder / "model"))


def edit(folder, change):
    path = folder / "model" / "config.json"
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))


def test_weights_for_another_clap_are_one_clear_error(folder):
    edit(folder, lambda tree: tree["model"]["clap"].update(dim=8))

    with pytest.raises(ModelError, match=r"linear\.weight is \(16, 6\), not \(16, 8\)"):
        load_model(read_info(folder / "model"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop("audio_llama_proj.bias"), "1 tensors missing: audio_llama_proj.bias$"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "1 tensors unknown: extra$"),
        (
            lambda tensors: tensors["audio_llama_proj.bias"].fill_(torch.nan),
            "not finite: audio_llama_proj.bias$",
        ),
        (
            lambda tensors: tensors.update({"audio_llama_proj.bias": torch.ones(32, dtype=torch.int8)}),
            "of the wrong type: audio_llama_proj.bias is int8$",
        ),
    ],
    ids=["missing", "extra", "nan", "quantised"],
)
def test_a_mapper_that_is_not_exactly_the_configured_one_is_named(folder, change, complaint):
    path = folder / "model" / "mapper.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)

    with pytest.raises(ModelError, match=rf"mapper\.safetensors does not fit its model: .*{complaint}"):
        load_model(read_info(folder / "model"))


def test_an_adapter_that_names_another_base_is_refused(folder):
    tiny_llm(folder / "other", seed=1)
    edit(folder, lambda tree: tree["model"]["llm"].update(path="../other"))

    with pytest.raises(ModelError, match=r"adapter_config\.json belongs to the language model '\.\./llm'"):
        load_model(read_info(folder / "model"))


def test_one_base_by_another_path_is_the_same(folder):
    edit(folder, lambda tree: tree["model"]["llm"].update(path="../../home/llm"))

    load_model(read_info(folder / "model"))


def test_a_tokenizer_with_ids_that_have_no_embedding_is_refused(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.add_tokens(["dog-dog-dog"])
    tokenizer.save_pretrained(folder / "model")

    with pytest.raises(ModelError, match=r"the tokenizer '.*/model' has ids up to 320, its model has"):
        load_model(read_info(folder / "model"))


def test_a_value_that_is_not_allowed_is_named(folder):
    edit(folder, lambda tree: tree["model"]["llm"].update(dtype="int3"))

    with pytest.raises(ModelError, match=r"llm\.dtype = 'int3' is not allowed"):
        read_info(folder / "model")


@pytest.mark.parametrize("key", ["model", "santa", "clap_identity", "name"])
def test_a_missing_key_is_named(folder, key):
    edit(folder, lambda tree: tree.pop(key))

    with pytest.raises(ModelError, match=f"config.json is incomplete: '{key}'"):
        read_info(folder / "model")


def test_another_format_is_refused(folder):
    edit(folder, lambda tree: tree.update(format="mats_ray/9"))

    with pytest.raises(ModelError, match="format 'mats_ray/9', this version reads 'mats_ray/1'"):
        read_info(folder / "model")


def chat_home(folder):
    """A model directory whose tokenizer has Qwen3's chat template, and its prompts while training."""
    path = tiny_chat_llm(folder / "llm")
    of = settings(path)
    model, prompts = build_mats(of.model, llm_path=str(path), seed=0)
    save_model(folder / "model", model, prompts, of)
    return model.eval(), prompts


def ids_of(prompts):
    return prompts.before(), prompts.after("What is it?"), prompts.eos_id


def test_the_prompt_a_model_was_trained_with_stays_whatever_becomes_of_the_template(tmp_path):
    model, prompts = chat_home(tmp_path)
    before = read_info(tmp_path / "model").model_id
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.chat_template = "{{ raise_exception('newer') }}"
    tokenizer.save_pretrained(tmp_path / "model")

    loaded, found = load_model(read_info(tmp_path / "model"))

    assert found.format == prompts.format
    assert found.format.name == "chat"
    assert ids_of(found) == ids_of(prompts)
    assert (loaded.before_F.tolist(), loaded.eos_id) == (prompts.before(), prompts.eos_id)
    assert answers(loaded, found) == answers(model, prompts)
    assert read_info(tmp_path / "model").model_id == before


def test_a_directory_without_a_prompt_was_trained_with_vicunas(tmp_path):
    chat_home(tmp_path)
    edit(tmp_path, lambda tree: (tree.pop("prompt"), tree["model"]["llm"].pop("prompt_format")))

    _, prompts = load_model(read_info(tmp_path / "model"))

    assert prompts.format == VICUNA
    assert ids_of(prompts) == ids_of(PromptTokenizer(AutoTokenizer.from_pretrained(tmp_path / "model")))


def test_another_prompt_is_another_model(tmp_path):
    chat_home(tmp_path)
    before = read_info(tmp_path / "model").model_id
    edit(tmp_path, lambda tree: tree["prompt"].update(before="<|im_start|>tool\n<Speech>"))

    assert read_info(tmp_path / "model").model_id != before


def test_a_prompt_that_is_none_is_named(folder):
    edit(folder, lambda tree: tree["prompt"].update(name="alpaca"))

    with pytest.raises(ModelError, match=r"config\.json: prompt: name = 'alpaca' is not allowed"):
        read_info(folder / "model")
