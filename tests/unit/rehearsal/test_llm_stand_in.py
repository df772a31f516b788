"""Stand-ins of language models load strictly: every tensor is there, none is left over."""

import json

import pytest
import torch
from transformers import AutoConfig

from mats_ray.errors import ConfigError
from mats_ray.models.llm import load_llm, load_tokenizer
from mats_ray.models.stand_in import is_stand_in
from mats_ray.rehearsal import llm_stand_in
from mats_ray.rehearsal.llm_stand_in import PUBLISHED, write_llm
from mats_ray.train.flops import llm_shape
from mats_ray.train.plan import KNOWN_SHAPES

TEXTS = [f"a dog barks {number} times" for number in range(50)]


def test_gpt2_of_one_layer_loads(tmp_path):
    write_llm("openai-community/gpt2", tmp_path, TEXTS, num_layers=1)

    llm, tokenizer = load_llm(str(tmp_path)), load_tokenizer(str(tmp_path))

    assert (llm.config.n_layer, llm.dtype, len(tokenizer)) == (1, torch.float32, 50_257)
    assert is_stand_in(str(tmp_path))


@pytest.fixture
def small_llama(monkeypatch):
    """Vicuna's stand-in of width 64, in shards of 40 kB."""
    published = PUBLISHED["lmsys/vicuna-7b-v1.5"]
    config = dict(published.config) | {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
    config |= {"num_key_value_heads": 4, "vocab_size": 5_000}
    small = llm_stand_in.Published(
        config=config,
        layers_key=published.layers_key,
        dtype=published.dtype,
        output=published.output,
        write_tokenizer=lambda folder, texts: llm_stand_in.write_llama_tokenizer(folder, texts, size=5_000),
    )
    monkeypatch.setitem(PUBLISHED, "small", small)
    monkeypatch.setattr(llm_stand_in, "SHARD_BYTES", 700_000)
    return "small"


def test_a_sharded_model_loads_in_its_type(small_llama, tmp_path):
    write_llm(small_llama, tmp_path, TEXTS, num_layers=3)

    llm = load_llm(str(tmp_path), dtype="auto")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())

    assert llm.dtype == torch.bfloat16
    assert llm.config.num_hidden_layers == 3
    assert len(set(index["weight_map"].values())) == len(list(tmp_path.glob("*.safetensors"))) > 1
    assert index["metadata"]["total_size"] == sum(2 * p.numel() for p in llm.parameters())


def test_no_answer_ends_early(small_llama, tmp_path):
    write_llm(small_llama, tmp_path, TEXTS, num_layers=2)
    llm = load_llm(str(tmp_path))

    ids = llm.generate(torch.tensor([[1, 40, 300]]), max_new_tokens=30, do_sample=False, pad_token_id=0)

    assert ids.shape[1] == 33
    assert llm.config.eos_token_id not in ids[0, 3:].tolist()


@pytest.mark.parametrize(
    ("ref", "known"), [("openai-community/gpt2", "gpt2"), ("lmsys/vicuna-7b-v1.5", "vicuna-7b-v1.5")]
)
def test_published_configurations_have_the_shapes_that_plans_use(ref, known):
    assert llm_shape(AutoConfig.for_model(**PUBLISHED[ref].config)) == KNOWN_SHAPES[known]


def test_an_unknown_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no stand-in for model.llm.path=a/b; there are some for"):
        write_llm("a/b", tmp_path, TEXTS, num_layers=None)
