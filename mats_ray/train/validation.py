"""Held-out triplets inside a run: their loss, and answers generated to a handful of fixed questions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mats_ray.config import RunConfig
from mats_ray.config.model import known_variance
from mats_ray.config.train import ValidationConfig
from mats_ray.data.collate import Collator
from mats_ray.data.heldout import read_held_out
from mats_ray.data.triplets import EMBEDDING, embedding_matrix
from mats_ray.models.mats import TrainBatch
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.train.engine import TrainEngine, evaluating
from mats_ray.train.tracking import Sample
from mats_ray.types import CLAPIdentity


@dataclass(frozen=True, slots=True)
class Validation:
    """One worker's part of the held-out triplets, the same in every validation."""

    settings: ValidationConfig
    batches: Sequence[TrainBatch]
    """Their number is the same on every worker."""
    questions: Sequence[tuple[str, str, str]]
    """Id, instruction and reference answer of each sample."""
    embeddings: torch.Tensor
    """Embeddings of the questions, (N, C), noised like the rest."""
    prompts: PromptTokenizer

    def loss(self, engine: TrainEngine) -> float:
        """Return the loss per answer token over all workers' rows."""
        loss_sum, tokens = engine.evaluate(self.batches)
        return loss_sum / max(1, tokens)

    def samples(self, engine: TrainEngine) -> list[Sample]:
        """Answer the questions greedily; every worker must call it, since weights may be partitioned."""
        if not self.questions:
            return []
        with evaluating(engine.model):
            answers = engine.model.answer(
                self.embeddings.to(engine.device),
                [self.prompts.after(instruction) for _, instruction, _ in self.questions],
                max_new_tokens=self.settings.max_new_tokens,
            )
        return [
            {"id": row, "instruction": question, "answer": reference, "generated": self.prompts.decode(a.ids)}
            for (row, question, reference), a in zip(self.questions, answers, strict=True)
        ]


def load_validation(
    config: RunConfig, prompts: PromptTokenizer, identity: CLAPIdentity, *, rank: int, num_workers: int
) -> Validation | None:
    """Read a worker's part of the held-out triplets; None where the configuration names none.

    Micro-batches are dealt to the workers in turn. Rows at the end that do not make one for every worker are
    left out; if there are fewer rows than that, every worker evaluates all of them.

    Raises:
        DataError: They are missing, or were embedded with another CLAP.
    """
    settings = config.train.validation
    if settings.data is None:
        return None
    table = read_held_out(
        settings.data,
        identity=identity,
        num_rows=settings.num_rows,
        seed=config.seed,
        variance=known_variance(config.model.noise.variance),
    )
    size = config.train.micro_batch_size
    even = len(table) // (size * num_workers) * size * num_workers
    starts = range(rank * size, even, size * num_workers) if even else range(0, len(table), size)
    collate = Collator(prompts, config.model.llm.max_text_tokens)
    columns = [table.column(name).to_pylist() for name in ("id", "instruction", "answer")]
    matrix = embedding_matrix(table.column(EMBEDDING))
    batches = [
        collate(matrix[start : start + size], *(column[start : start + size] for column in columns[1:]))
        for start in starts
    ]
    questions = list(zip(*columns, strict=True))[: settings.num_samples]
    return Validation(settings, batches, questions, torch.from_numpy(matrix[: len(questions)]), prompts)
