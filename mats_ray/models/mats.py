"""MATS: CLAP embedding -> connector -> prefix -> language model (paper section 3.2).

Shapes: B batch, C CLAP dim, T tokens after the prefix, S sequence, L LLM dim, A answer tokens, U columns with
an answer in them, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LogitsProcessorList

from mats_ray.models import packing
from mats_ray.models.device import to_device
from mats_ray.models.generation import kv_cache
from mats_ray.models.generation.batch import ContinuousBatch
from mats_ray.models.generation.search import Penalties, SearchSettings, TokenSequence
from mats_ray.models.layout import TrainLayout
from mats_ray.models.mapper import Connector
from mats_ray.models.splice import IGNORED, Spliced, pad_left, splice

_OWN_DECODING = {"num_beams", "repetition_penalty", "no_repeat_ngram_size"}
"""Arguments of ``generate`` that our search supports."""

_STRETCHED = frozenset({"linear", "dynamic", "yarn", "longrope"})
"""Kinds of rotary positions that reach further than the model's pre-training."""


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """One micro-batch."""

    clap_BC: Tensor
    """Noised text embeddings (audio embeddings for the supervised ceiling)."""
    after_BT: Tensor
    """Prompt rest, answer, EOS; padded right with any id."""
    mask_BT: Tensor
    labels_BT: Tensor
    """``after_BT`` at answer positions, -100 elsewhere."""
    ids: tuple[str, ...] = ()
    """Ids of the samples, for error messages."""
    layout: TrainLayout | None = None
    """As ``MATS.laid_out`` finds it; without one it is found in the forward pass."""

    def to(self, device: torch.device | str) -> "TrainBatch":
        """Return a copy on another device."""
        tensors = (to_device(t, device) for t in (self.clap_BC, self.after_BT, self.mask_BT, self.labels_BT))
        return TrainBatch(*tensors, ids=self.ids, layout=self.layout and self.layout.to(device))

    @property
    def num_answer_tokens(self) -> int:
        """Number of positions that carry loss."""
        return int((self.labels_BT != IGNORED).sum())

    @property
    def num_text_tokens(self) -> int:
        """Number of positions that are not padding, without the audio prefix."""
        return int(self.mask_BT.sum())


@dataclass(frozen=True, slots=True)
class Generated:
    """Token ids of one answer, EOS cut off."""

    ids: list[int]
    ended: bool
    """The model ended the answer itself."""


class MATS(nn.Module):
    """The trainable model: connector and language model. CLAP stays outside, it is frozen.

    Args:
        connector: (B, C) -> (B, P, L).
        llm: A causal language model of transformers, or a PeftModel around one.
        before_ids: BOS and the prompt's start.
        eos_id: Ends an answer.
    """

    before_F: Tensor

    def __init__(
        self, connector: Connector, llm: nn.Module, *, before_ids: Sequence[int], eos_id: int
    ) -> None:
        super().__init__()
        self.connector = connector
        self.llm = llm
        self.eos_id = eos_id
        self.register_buffer("before_F", torch.tensor(list(before_ids)), persistent=False)

    def forward(self, batch: TrainBatch) -> Tensor:
        """Return the summed cross-entropy of the answers, a float32 scalar.

        A sum, not a mean: the caller divides by the answer tokens of the whole global batch, so the result
        does not depend on how the batch was split. Logits are the model's own: some architectures scale or
        cap what their output layer gives.
        """
        layout = self.laid_out(batch).layout
        assert layout is not None
        if layout.packing is None:
            return self._loss_padded(batch, layout)
        return self._loss_packed(batch, layout, layout.packing)

    def laid_out(self, batch: TrainBatch) -> TrainBatch:
        """Return the batch with its layout, which should be found before it is moved to a device."""
        if batch.layout is not None:
            return batch
        sizes = {"prefix_length": self.connector.prefix_length, "num_before": len(self.before_F)}
        config = self._base().config
        if packing.is_supported(config):
            packing.enable(config)
            return replace(batch, layout=TrainLayout.packed(batch.mask_BT, batch.labels_BT, **sizes))
        return replace(batch, layout=TrainLayout.padded(batch.labels_BT, **sizes))

    def _loss_packed(self, batch: TrainBatch, layout: TrainLayout, packed: packing.Packing) -> Tensor:
        """Compute the loss on packed rows; logits exist only where they predict an answer."""
        prefix_BPL, embed = self.connector(batch.clap_BC), self._base().get_input_embeddings()
        before_FL, after_BTL = embed(self.before_F), embed(batch.after_BT)
        own_BQL = torch.cat([prefix_BPL.to(after_BTL.dtype), after_BTL], dim=1)
        own_ML = own_BQL.flatten(0, 1).index_select(0, packed.kept_M)
        assert packing.is_enabled(self._base().config)
        logits_AV = self.llm(
            inputs_embeds=torch.cat([before_FL, own_ML])[None],
            attention_mask=packing.unused_mask(before_FL),
            position_ids=packed.positions_N[None],
            use_cache=False,
            logits_to_keep=layout.logits_at,
            packing=packed,
        ).logits.squeeze(0)
        return cross_entropy(logits_AV.float(), layout.labels_A, reduction="sum")

    def _loss_padded(self, batch: TrainBatch, layout: TrainLayout) -> Tensor:
        """Compute the loss on padded rows; logits exist only at columns where some row has a label.

        There is no mask: padding is at the right end, where causal attention never looks; flash attention
        accepts none.
        """
        assert layout.answers_A is not None
        spliced = self._splice(batch.clap_BC, batch.after_BT, batch.mask_BT)
        logits_BUV = self.llm(
            inputs_embeds=spliced.embeds_BSL, use_cache=False, logits_to_keep=layout.logits_at
        ).logits
        logits_AV = logits_BUV.flatten(0, 1).index_select(0, layout.answers_A)
        return cross_entropy(logits_AV.float(), layout.labels_A, reduction="sum")

    @torch.inference_mode()
    def generate(
        self, clap_BC: Tensor, after_ids: Sequence[Sequence[int]], *, max_new_tokens: int, **decoding: Any
    ) -> list[Generated]:
        """Do what ``answer`` does, in inference mode: its tensors cannot be used in training."""
        return self.answer(clap_BC, after_ids, max_new_tokens=max_new_tokens, **decoding)

    @torch.no_grad()
    def answer(
        self, clap_BC: Tensor, after_ids: Sequence[Sequence[int]], *, max_new_tokens: int, **decoding: Any
    ) -> list[Generated]:
        """Answer one prompt per embedding, without sampling.

        Args:
            clap_BC: (B, C) embeddings, text or Santa-moved audio.
            after_ids: Ids of each prompt's second half, of any lengths.
            max_new_tokens: Answers longer than this are cut.
            **decoding: Further arguments of transformers' ``generate``, e.g. ``num_beams``.

        Returns:
            One result per row, each ended by its own EOS; none depends on what else is in the batch.

        Raises:
            AnswerError: Some logits are NaN or infinite.
            ValueError: ``max_new_tokens`` is below 1.
        """
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={max_new_tokens} must be at least 1")
        prompts = pad_left(self.prompt(clap_BC, after_ids))
        if not self.can_step or decoding.keys() - _OWN_DECODING:
            return self.generate_by_transformers(prompts, max_new_tokens=max_new_tokens, **decoding)
        num_beams = decoding.pop("num_beams", 1)
        settings = SearchSettings(
            max_new_tokens=max_new_tokens, num_beams=num_beams, penalties=Penalties(**decoding)
        )
        sequences = [TokenSequence(settings) for _ in after_ids]
        batch = ContinuousBatch(self.llm, eos_id=self.eos_id)
        batch.add(prompts, sequences)
        while batch.sequences:
            batch.step()
        for sequence in sequences:
            if sequence.error is not None:
                raise sequence.error
        return [Generated(sequence.ids, sequence.ended) for sequence in sequences]

    def generate_by_transformers(
        self, prompts: Spliced, *, max_new_tokens: int, **decoding: Any
    ) -> list[Generated]:
        """Answer prompts, padded left, by transformers' ``generate``: slower, for any model.

        Penalties are ours: transformers 5.23 lets its repetition penalty skip as many ids at the front as a
        row has padding. Behind ``inputs_embeds`` there is no padding among the ids, so it would spare the
        first tokens of every answer whose prompt is not the longest of its batch.

        Raises:
            AnswerError: Some logits are NaN or infinite.
        """
        off = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}  # also overrides a model's own defaults
        penalties = Penalties(**{name: decoding[name] for name in off if name in decoding})
        ids_BT = self.llm.generate(  # pyright: ignore[reportCallIssue]
            inputs_embeds=prompts.embeds_BSL,
            attention_mask=prompts.mask_BS,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=self.eos_id,
            pad_token_id=self.eos_id,
            **decoding | off,
            logits_processor=LogitsProcessorList([penalties]),
        )
        return [self._cut(row) for row in ids_BT.tolist()]

    @property
    def can_step(self) -> bool:
        """Whether answers can be generated step by step, see ``kv_cache.is_supported``."""
        return kv_cache.is_supported(self._base().config)

    @property
    def max_positions(self) -> int | None:
        """Number of positions that a prompt and its answer may have together; None: there is no limit.

        transformers leaves ``max_position_embeddings`` at the length of pre-training where rotary positions
        are stretched by a factor. A sliding window limits the visible past, not its length.
        """
        config = self._base().config
        positions: int | None = getattr(config, "max_position_embeddings", None)
        rope: Any = getattr(config, "rope_parameters", None) or {}
        if positions is None or rope.get("rope_type") not in _STRETCHED:
            return positions
        original = rope.get("original_max_position_embeddings") or positions
        return max(positions, int(original * float(rope.get("factor") or 1)))

    def prompt(self, clap_BC: Tensor, after_ids: Sequence[Sequence[int]]) -> Spliced:
        """Embed one prompt per embedding, padded right; see ``generate`` for the arguments."""
        spliced = self._splice(clap_BC, *pad_right(after_ids, device=clap_BC.device))
        before = len(self.before_F) + self.connector.prefix_length
        return replace(spliced, lengths=[before + len(ids) for ids in after_ids])

    def _cut(self, ids: list[int]) -> Generated:
        ended = self.eos_id in ids
        return Generated(ids[: ids.index(self.eos_id)] if ended else ids, ended)

    def _splice(self, clap_BC: Tensor, after_BT: Tensor, mask_BT: Tensor) -> Spliced:
        embed = self._base().get_input_embeddings()
        return splice(embed(self.before_F), self.connector(clap_BC), embed(after_BT), mask_BT)

    def _base(self) -> Any:
        """Return the transformers model itself, without peft around it (LoRA lives inside its layers)."""
        return self.llm.get_base_model() if hasattr(self.llm, "get_base_model") else self.llm  # pyright: ignore[reportCallIssue]


def pad_right(
    rows: Sequence[Sequence[int]], *, value: int = 0, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Pad rows of ids to one length: ids (B, T) int64 and mask (B, T) int64."""
    width = max(len(row) for row in rows)
    ids_BT = torch.full((len(rows), width), value, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    for i, row in enumerate(rows):
        ids_BT[i, : len(row)] = torch.tensor(list(row), dtype=torch.long)
        mask_BT[i, : len(row)] = 1
    return to_device(ids_BT, device), to_device(mask_BT, device)
