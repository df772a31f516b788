"""The toy language model: a tiny LLaMA, taught by plain text to answer questions about what it reads.

It plays Vicuna: it learns to answer about a scene it *reads* ("USER: <Speech>a dog barks</Speech> ...").
MATS then freezes it and teaches mapper and LoRA to put a CLAP embedding where the description stood.

Shapes: B batch, T tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mats_ray.config.model import ToyConfig
from mats_ray.models.mats import pad_right
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.models.splice import IGNORED
from mats_ray.progress import Progress
from mats_ray.types import Triplet

LEARNING_RATE, WARMUP_STEPS = 2e-3, 40


def llama_config(tokenizer: PreTrainedTokenizerFast, config: ToyConfig) -> LlamaConfig:
    """LLaMA's architecture, about 2 M parameters."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.llm_dim,
        intermediate_size=config.llm_dim * 8 // 3 // 8 * 8,
        num_hidden_layers=config.llm_layers,
        num_attention_heads=config.llm_dim // 32,
        num_key_value_heads=config.llm_dim // 32,
        max_position_embeddings=512,
        # transformers types them as whatever any tokenizer may hold; ours has one id for each
        bos_token_id=cast("int", tokenizer.bos_token_id),
        eos_token_id=cast("int", tokenizer.eos_token_id),
        pad_token_id=cast("int", tokenizer.pad_token_id),
        tie_word_embeddings=True,
    )


def pretrain_llm(
    directory: Path,
    triplets: Sequence[Triplet],
    tokenizer: PreTrainedTokenizerFast,
    config: ToyConfig,
    *,
    seed: int,
) -> None:
    """Train on written dialogues, loss on the answers, and save in transformers' format.

    Args:
        directory: Made if absent.
        triplets: Text, instruction and answer; the text stands where the audio prefix will.
        tokenizer: Saved with the model.
        config: Size, steps, batch size.
        seed: Of weights and order.
    """
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        model = LlamaForCausalLM(llama_config(tokenizer, config)).train()
    dialogues = [_dialogue(triplet, PromptTokenizer(tokenizer)) for triplet in triplets]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    rng = np.random.default_rng(seed)
    with Progress("toy LLaMA", total=config.llm_steps, unit="step") as progress:
        for step in range(config.llm_steps):
            scale = min((step + 1) / WARMUP_STEPS, max(0.05, 1 - step / config.llm_steps))
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * scale
            rows = rng.choice(len(dialogues), config.llm_batch_size)
            loss = _loss(model, [dialogues[row] for row in rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            progress.advance(note=f"loss {loss.item():.3f}")
    model.eval().save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _dialogue(triplet: Triplet, prompts: PromptTokenizer) -> tuple[list[int], list[int]]:
    """Token ids and labels of one dialogue."""
    described = prompts.tokenizer(" " + triplet.text, add_special_tokens=False)["input_ids"]
    sample = prompts.sample(triplet.instruction, triplet.answer, max_text_tokens=150)
    read = [*prompts.before(), *described, *sample.prompt]
    return [*read, *sample.answer], [IGNORED] * len(read) + sample.answer


def _loss(model: LlamaForCausalLM, rows: Sequence[tuple[list[int], list[int]]]) -> Tensor:
    ids_BT, mask_BT = pad_right([ids for ids, _ in rows])
    labels_BT, _ = pad_right([labels for _, labels in rows], value=IGNORED)
    return model(input_ids=ids_BT, attention_mask=mask_BT, labels=labels_BT).loss
