"""MATS: CLAP embedding -> connector -> prefix -> language model (paper section 3.2).

Shapes: B batch, C CLAP dim, T tokens after the prefix, S sequence, L LLM dim, U columns with an
answer in them, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from mats_ray.models.beams import beam_search
from mats_ray.models.mapper import Connector
from mats_ray.models.search import Penalties, check_scores
from mats_ray.models.splice import IGNORED, Spliced, pad_left, splice

_PLAIN_CACHES = frozenset({"llama", "gpt2"})
"""Language models that keep keys and values of every token; of others, ``generate`` knows more."""

_STRETCHED = frozenset({"linear", "dynamic", "yarn", "longrope"})
"""Kinds of rotary positions that reach further than the model was trained at first."""


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
    """Of the samples, to name them when something is wrong."""

    def to(self, device: torch.device | str) -> "TrainBatch":
        """Return a copy on another device."""
        tensors = (t.to(device) for t in (self.clap_BC, self.after_BT, self.mask_BT, self.labels_BT))
        return TrainBatch(*tensors, ids=self.ids)

    @property
    def num_answer_tokens(self) -> int:
        """Positions that carry loss."""
        return int((self.labels_BT != IGNORED).sum())

    @property
    def num_text_tokens(self) -> int:
        """Positions that are not padding, the audio prefix left out."""
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
        does not depend on how the batch was split. Logits exist only at columns where some row has a label;
        they are the model's own: some architectures scale or cap what their output layer gives. There is no
        mask: padding is at the right end, where causal attention never looks; flash attention takes none.
        """
        spliced = self._splice(batch.clap_BC, batch.after_BT, batch.mask_BT)
        columns_U = (batch.labels_BT != IGNORED).any(dim=0).nonzero()[:, 0]
        # position i predicts token i + 1, so the answer's logits lie one to the left of its labels
        before_answer = spliced.mask_BS.shape[1] - batch.labels_BT.shape[1] - 1
        logits_BUV = self.llm(
            inputs_embeds=spliced.embeds_BSL,
            use_cache=False,
            logits_to_keep=before_answer + columns_U,
        ).logits
        labels_BU = batch.labels_BT[:, columns_U]
        is_answer_BU = labels_BU != IGNORED
        return cross_entropy(logits_BUV[is_answer_BU].float(), labels_BU[is_answer_BU], reduction="sum")

    @torch.inference_mode()
    def generate(
        self, clap_BC: Tensor, after_ids: Sequence[Sequence[int]], *, max_new_tokens: int, **decoding: Any
    ) -> list[Generated]:
        """Do what ``answer`` does, in inference mode: nothing it touches can be trained afterwards."""
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
        spliced = pad_left(self.prompt(clap_BC, after_ids))
        if self._can_search_beams(decoding):
            ids = self._beam_search(spliced, max_new_tokens=max_new_tokens, **decoding)
        else:
            ids = self.generated(spliced, max_new_tokens=max_new_tokens, **decoding)
        return [self._cut(row) for row in ids]

    @property
    def max_positions(self) -> int | None:
        """Number of positions a prompt and its answer may take together; None: there is no limit.

        transformers leaves ``max_position_embeddings`` at the length of pre-training where rotary positions
        are stretched by a factor. A sliding window limits what is seen of the past, not its length.
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
        return self._splice(clap_BC, *pad_right(after_ids, device=clap_BC.device))

    def _can_search_beams(self, decoding: dict[str, Any]) -> bool:
        """Whether ``beams`` finds what ``generate`` would: no other options, a cache rows are cut from.

        It takes twice as many tokens at a time as there are beams: a small vocabulary is for ``generate``.
        """
        config = self._base().config
        plain = getattr(config, "sliding_window", None) is None and config.model_type in _PLAIN_CACHES
        own = {"num_beams", "repetition_penalty", "no_repeat_ngram_size"}
        is_beams = 1 < decoding.get("num_beams", 1) <= config.vocab_size // 2
        return plain and is_beams and decoding.keys() <= own

    def _beam_search(
        self, spliced: Spliced, *, max_new_tokens: int, num_beams: int, **penalties: Any
    ) -> list[list[int]]:
        return beam_search(
            self.llm,
            spliced,
            num_beams=num_beams,
            eos_id=self.eos_id,
            max_new_tokens=max_new_tokens,
            penalties=Penalties(**penalties),
        )

    def generated(self, spliced: Spliced, *, max_new_tokens: int, **decoding: Any) -> list[list[int]]:
        """Answer prompts, padded left, by transformers' ``generate``: ids, EOS and padding included."""
        ids_BT = self.llm.generate(  # pyright: ignore[reportCallIssue]
            inputs_embeds=spliced.embeds_BSL,
            attention_mask=spliced.mask_BS,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=self.eos_id,
            pad_token_id=self.eos_id,
            **_own_penalties(decoding),
        )
        return ids_BT.tolist()

    def _cut(self, ids: list[int]) -> Generated:
        ended = self.eos_id in ids
        return Generated(ids[: ids.index(self.eos_id)] if ended else ids, ended)

    def _splice(self, clap_BC: Tensor, after_BT: Tensor, mask_BT: Tensor) -> Spliced:
        embed = self._base().get_input_embeddings()
        return splice(embed(self.before_F), self.connector(clap_BC), embed(after_BT), mask_BT)

    def _base(self) -> Any:
        """The transformers model itself, without peft around it (LoRA lives inside its layers)."""
        return self.llm.get_base_model() if hasattr(self.llm, "get_base_model") else self.llm  # pyright: ignore[reportCallIssue]


class _Finite(LogitsProcessor):
    """Refuses logits that no token can be chosen by."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """Return the scores as they are."""
        check_scores(scores)
        return scores


def _own_penalties(decoding: dict[str, Any]) -> dict[str, Any]:
    """Bring the processors that look at the ids generated so far, behind a check of the logits.

    transformers 5.23 lets its repetition penalty skip as many ids at the front as a row has padding. Behind
    ``inputs_embeds`` there is no padding among the ids, so it would spare the first words of every answer
    whose prompt is not the longest of its batch.
    """
    penalty = float(decoding.get("repetition_penalty", 1.0))
    ngram_size = int(decoding.get("no_repeat_ngram_size", 0))
    processors = LogitsProcessorList([_Finite()])
    if penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(penalty))
    if ngram_size:
        processors.append(NoRepeatNGramLogitsProcessor(ngram_size))
    off = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}  # also what a model's own defaults say
    return decoding | off | {"logits_processor": processors}


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
    return ids_BT.to(device), mask_BT.to(device)
