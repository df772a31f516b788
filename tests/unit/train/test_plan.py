"""Plans against figures worked out elsewhere, and how they move when a configuration does."""

import json

import pytest
from transformers import AutoConfig, GPT2Config, LlamaConfig, MistralConfig

from mats_ray.config import load_config
from mats_ray.errors import ModelError
from mats_ray.train.flops import KNOWN_SHAPES, llm_shape
from mats_ray.train.plan import GPUS, RESERVED, Assumptions, make_plan, shape_of

GOOD = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
GOOD |= {"intermediate_size": 16, "vocab_size": 32}
LLAMA = KNOWN_SHAPES["llama-7b"]


@pytest.fixture(scope="module")
def config():
    return load_config("configs/mats_llama_7b.yaml")


def plan(config, **given):
    return make_plan(config, LLAMA, Assumptions(**({"gpu": GPUS["a100-80"], "num_gpus": 2} | given)))


def test_throughput_and_hours_of_two_a100(config):
    """MATS-LLaMA at 140 tokens, 40 % of peak: 67 samples/s by hand, 22.1 h for 5.3 M samples."""
    found = plan(config)

    assert found.samples_per_s == pytest.approx(67, rel=0.03)
    assert found.hours == pytest.approx(55_000 * 96 / found.samples_per_s / 3600)
    assert found.hours == pytest.approx(22.1, rel=0.03)
    assert found.dollars == pytest.approx(found.hours * 2 * 4.0)


def test_trained_parameters_and_checkpoint_are_those_of_the_paper(config):
    found = plan(config)

    assert found.trained_parameters == pytest.approx(113.4e6 + 4.19e6, rel=2e-3)
    assert found.checkpoint_gb == pytest.approx(1.41, rel=0.01)
    assert found.frozen_gb == pytest.approx(13.5, rel=0.01)


def test_the_micro_batch_fits_and_divides(config):
    found = plan(config)

    assert 96 // 2 % found.micro_batch_size == 0
    assert found.memory_gb < 80
    room = 80 * (1 - RESERVED) - found.frozen_gb - found.trained_gb
    assert found.samples_that_fit == int(room / found.gb_per_sample)
    assert found.micro_batch_size == 48 <= found.samples_that_fit
    assert plan(config, num_gpus=1, gpu=GPUS["a100-80"]).micro_batch_size == 48  # of 96, and 86 would fit
    assert plan(config, gpu=GPUS["a10g"]).micro_batch_size < found.micro_batch_size


def test_what_does_not_fit_is_none(config):
    whole = config.replace(model={"llm": {"train": "full"}})

    assert plan(whole, gpu=GPUS["a10g"]).micro_batch_size == 0


def test_each_zero_stage_splits_more(config):
    whole = config.replace(model={"llm": {"train": "full"}})
    stages = [
        plan(whole.replace(train={"engine": {"zero_stage": stage}}), num_gpus=8).trained_gb
        for stage in (0, 1, 2, 3)
    ]

    assert stages == sorted(stages, reverse=True)
    assert stages[3] == pytest.approx(stages[0] / 8)


def test_stage_3_splits_what_is_frozen_too(config):
    third = config.replace(train={"engine": {"zero_stage": 3}})

    assert plan(third, num_gpus=8).frozen_gb == pytest.approx(plan(config, num_gpus=8).frozen_gb / 8)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 27.0), ("bfloat16", 13.5), ("float16", 13.5)])
@pytest.mark.parametrize("stage", [2, 3])
def test_every_worker_reads_the_whole_language_model_as_it_is_to_answer(config, dtype, size, stage):
    """On the card it is bf16 from the start, whatever it is read as."""
    changed = config.replace(model={"llm": {"dtype": dtype}}, train={"engine": {"zero_stage": stage}})

    assert plan(changed, num_gpus=8).host_gb == pytest.approx(size, rel=0.01)
    assert plan(changed, num_gpus=8).frozen_gb == pytest.approx(13.5 / (8 if stage == 3 else 1), rel=0.01)


def test_the_shape_of_a_model_in_a_folder_is_read(config, llm_path):
    shape = shape_of(config.replace(model={"llm": {"path": llm_path}}))

    assert (shape.dim, shape.num_layers, shape.num_heads) == (32, 2, 2)
    assert shape_of(config) == LLAMA


@pytest.mark.parametrize("name", GPUS)
def test_a_card_is_plausible_and_named_by_its_memory(name):
    card = GPUS[name]

    assert 1e14 < card.bf16_flops < 1e16
    assert 0.1 < card.dollars_per_hour < 50
    if "-" in name:
        assert name.rsplit("-", 1)[1] == f"{card.memory_gb:.0f}"


@pytest.mark.parametrize("kind", [LlamaConfig, GPT2Config, MistralConfig])
@pytest.mark.parametrize("written", ["by transformers", "without a word on ties"])
def test_the_shape_is_the_one_that_transformers_reads(kind, written, config, tmp_path):
    kind().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    if written != "by transformers":
        tree = json.loads(file.read_text())
        tree.pop("tie_word_embeddings", None)
        file.write_text(json.dumps(tree))

    shape = shape_of(config.replace(model={"llm": {"path": str(tmp_path)}}))

    assert shape == llm_shape(AutoConfig.from_pretrained(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"model_type": "llama"}',
        "[" * 100_000,
        GOOD | {"hidden_size": "x"},
        GOOD | {"num_attention_heads": 0},
        GOOD | {"vocab_size": -1},
        GOOD | {"intermediate_size": 1e400},
    ],
    ids=range(9),
)
def test_a_config_json_without_a_shape_is_one_line(content, config, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))

    with pytest.raises(ModelError, match=f"no shape of a language model can be read from {file}: ") as caught:
        shape_of(config.replace(model={"llm": {"path": str(tmp_path)}}))
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_without_config_json_is_refused(config, tmp_path):
    with pytest.raises(ModelError, match="no shape of a language model can be read"):
        shape_of(config.replace(model={"llm": {"path": str(tmp_path)}}))


def test_the_next_model_is_planned_without_its_files():
    """Qwen3-8B with an adapter of rank 8 on all linear layers, counted by hand in test_flops.py."""
    config = load_config("configs/mats_next.yaml")
    shape = shape_of(config)

    found = make_plan(config, shape, Assumptions(gpu=GPUS["h100-80"], num_gpus=8))

    assert (shape.num_heads, shape.num_kv_heads, shape.head_dim) == (32, 8, 128)
    assert found.trained_parameters == pytest.approx(113.4e6 + 21_823_488, rel=1e-3)
    assert found.frozen_gb == pytest.approx(16.4, rel=0.01)
    assert found.micro_batch_size >= config.train.micro_batch_size
    assert found.memory_gb < 80
