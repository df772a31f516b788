"""The toy language model: a tiny LLaMA, pretrained on plain text to answer questions about a description.

It stands for Vicuna: it learns to answer about a scene in *text* ("USER: <Speech>a dog barks</Speech> ...").
MATS then freezes it and trains mapper and LoRA to put a CLAP embedding where the description stood.

All questions about one description share it in one row: each sees the description and itself, no other, so
that the row is worth as many rows, at half the tokens.

Shapes: B batch, T tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mats_ray.config.toy import ToyConfig
from mats_ray.config.train import ScheduleConfig
from mats_ray.models.mats import pad_right
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.models.splice import IGNORED
from mats_ray.models.startup import quiet_transformers
from mats_ray.progress import Progress
from mats_ray.toy.fitting import first_weights, optimizers, update
from mats_ray.types import Triplet

SCHEDULE = ScheduleConfig(type="cosine", warmup_steps=40)
MATRIX_LEARNING_RATE, LEARNING_RATE = 2e-2, 2e-3
"""Learning rates: Muon's for the layers' matrices, AdamW's for embeddings and norms."""
INITIALIZER_RANGE = 0.06
"""For narrow layers; with transformers' 0.02, made for thousands of units, it needs twice the steps."""


def llama_config(tokenizer: PreTrainedTokenizerFast, config: ToyConfig) -> LlamaConfig:
    """LLaMA's architecture; about 0.6 M parameters as the demo sets it."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.llm_dim,
        intermediate_size=2 * config.llm_dim,
        num_hidden_layers=config.llm_layers,
        num_attention_heads=config.llm_dim // 32,
        num_key_value_heads=config.llm_dim // 32,
        max_position_embeddings=512,
        initializer_range=INITIALIZER_RANGE,
        # transformers types them as whatever any tokenizer may hold; ours has one id for each
        bos_token_id=cast("int", tokenizer.bos_token_id),
        eos_token_id=cast("int", tokenizer.eos_token_id),
        pad_token_id=cast("int", tokenizer.pad_token_id),
        tie_word_embeddings=True,
    )


@dataclass(slots=True)
class Row:
    """One description and all dialogues about it, in one line of tokens."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """Each dialogue continues where the description ended, as if it were the only one."""
    segments: list[int] = field(default_factory=list)
    """0 for the description, then the number of the dialogue."""

    def add(self, ids: list[int], labels: list[int], *, start: int, segment: int) -> None:
        """Append tokens that stand at positions from ``start`` on."""
        self.ids += ids
        self.labels += labels
        self.positions += range(start, start + len(ids))
        self.segments += [segment] * len(ids)


def pretrain_llm(
    directory: Path,
    dialogues: Sequence[Sequence[Triplet]],
    tokenizer: PreTrainedTokenizerFast,
    config: ToyConfig,
    *,
    seed: int,
) -> None:
    """Train on written dialogues, loss on the answers, and save in transformers' format.

    Args:
        directory: Made if absent.
        dialogues: All questions and answers about a text, per text; it stands in place of the audio prefix.
        tokenizer: Saved with the model.
        config: Size, steps, batch size in descriptions.
        seed: Seed of weights and order.
    """
    with first_weights(seed):
        model = LlamaForCausalLM(llama_config(tokenizer, config)).train()
    prompts = PromptTokenizer(tokenizer)
    both = optimizers(model.named_parameters(), matrices=MATRIX_LEARNING_RATE, others=LEARNING_RATE)
    rng = np.random.default_rng(seed)
    with Progress("toy LLaMA", total=config.llm_steps, unit="step") as progress:
        for step in range(config.llm_steps):
            drawn = [dialogues[i] for i in rng.choice(len(dialogues), config.llm_batch_size)]
            loss = reading_loss(model, [read_row(triplets, prompts) for triplets in drawn])
            model.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            update(both, step=step, num_steps=config.llm_steps, schedule=SCHEDULE)
            progress.advance(note=f"loss {loss.item():.3f}")
    with quiet_transformers():
        model.eval().save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def read_row(triplets: Sequence[Triplet], prompts: PromptTokenizer) -> Row:
    """Tokenise a description and all dialogues about it."""
    text_ids = prompts.tokenizer(" " + triplets[0].text, add_special_tokens=False)["input_ids"]
    described = [*prompts.before(), *text_ids]
    row = Row()
    row.add(described, [IGNORED] * len(described), start=0, segment=0)
    for segment, triplet in enumerate(triplets, start=1):
        sample = prompts.sample(triplet.instruction, triplet.answer, max_text_tokens=150)
        labels = [IGNORED] * len(sample.prompt) + sample.answer
        row.add(sample.prompt + sample.answer, labels, start=len(described), segment=segment)
    return row


def reading_loss(model: LlamaForCausalLM, rows: Sequence[Row]) -> Tensor:
    """Cross-entropy per answer token."""
    ids_BT, _ = pad_right([row.ids for row in rows])
    positions_BT, _ = pad_right([row.positions for row in rows])
    segments_BT, _ = pad_right([row.segments for row in rows], value=-1)
    labels_BT, _ = pad_right([row.labels for row in rows], value=IGNORED)
    same_BTT = segments_BT[:, :, None] == segments_BT[:, None, :]
    seen_BTT = (same_BTT | (segments_BT[:, None, :] == 0)).tril()
    bias_BTT = torch.zeros(seen_BTT.shape).masked_fill(~seen_BTT, torch.finfo(torch.float32).min)
    hidden_BTD = model.model(
        input_ids=ids_BT, attention_mask=bias_BTT[:, None], position_ids=positions_BT
    ).last_hidden_state
    next_BT = labels_BT[:, 1:]
    answered_BT = next_BT != IGNORED
    return cross_entropy(model.lm_head(hidden_BTD[:, :-1][answered_BT]), next_BT[answered_BT])
