"""Modules of ours, and a file as upstream MATS saves it, filled by the recipe."""

import ast
import json

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer

from tests.golden.recipe import fill


def draw_module(module, salt, *, prefix=""):
    """Overwrite every parameter with what the recipe draws for its upstream name."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(fill(salt, prefix + name, tuple(parameter.shape))))


def draw_connector(connector, salt):
    """Names of mapper and projection are upstream's."""
    draw_module(connector, salt)


def save_llama(directory, golden):
    """Write the language model that upstream's run started from, without upstream's row for [PAD]."""
    meta = json.loads(str(golden["meta"]))
    sizes = {key: value for key, value in meta["llama"].items() if key not in ("bos", "eos", "pad_row_480")}
    with torch.device("meta"):
        llama = LlamaForCausalLM(LlamaConfig(**sizes, bos_token_id=1, eos_token_id=2))
    llama.to_empty(device="cpu")
    draw_module(llama, meta["salt"], prefix="llama.")
    llama.save_pretrained(directory)
    (directory / "tokenizer.model").write_bytes(golden["tokenizer_model"].tobytes())
    LlamaTokenizer.from_pretrained(directory).save_pretrained(directory)


def save_upstream(path, golden):
    """Write a checkpoint with everything in it, frozen weights too, under the names of golden key maps."""
    salt = json.loads(str(golden["meta"]))["salt"]
    state = {}
    for line in map(str, golden["key_map"]):
        name, recipe_name, shape = line.split("|")
        state[name] = _draw(salt, recipe_name, ast.literal_eval(shape))
    torch.save({"model": state, "iteration": 7}, path)


def _draw(salt, name, shape):
    vocabulary_is_padded = name in ("llama.model.embed_tokens.weight", "llama.lm_head.weight")
    if not vocabulary_is_padded:
        return torch.from_numpy(fill(salt, name, shape))
    rows, width = shape
    return torch.cat([torch.from_numpy(fill(salt, name, (rows - 1, width))), torch.zeros(1, width)])
