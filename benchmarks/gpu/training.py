"""Training: MFU, samples/s and memory by micro-batch, DeepSpeed's engine, transformers' Trainer with peft.

The peer trains the same model on the same rows in the way one would write first: rows padded side by side,
logits at all positions. Its loss is compared with ours before anything is timed.
"""

import tempfile
import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks import gpu_train
from benchmarks.gpu.parts import Outcome
from benchmarks.gpu.sizes import Size
from mats_ray.models.mats import MATS, TrainBatch
from mats_ray.models.splice import IGNORED
from mats_ray.train.engine import evaluating


def run(size: Size, device: str, outcome: Outcome) -> None:
    args = gpu_train.arguments(["--size", size.name])
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    rates: dict[int, float] = {}
    for row in gpu_train.training(args, device, dtype):
        rates[row["micro_batch"]] = row["samples_per_s"]
        if row["mfu"] >= outcome.figures.get("mfu", 0.0):
            outcome.figures |= {"mfu": row["mfu"], "samples_per_s": row["samples_per_s"]}
        outcome.add("Ours, plain torch, by micro-batch", row)
    if not rates:
        smallest = args.micro_batches[0]
        outcome.failures.append(f"does not fit: a micro-batch of {smallest}, the smallest, is out of memory")
        return
    _free(device)
    peer = largest_trainer(size, list(rates), device, dtype)
    if peer is None:
        outcome.failures.append("Trainer + peft does not fit: out of memory at every micro-batch")
    else:
        rate = rates[peer["micro_batch"]]
        outcome.figures |= {
            "over_trainer": rate / peer["samples_per_s"],
            "losses_apart": peer["losses_apart"],
        }
        outcome.add("Trainer + peft on the same model and rows", peer)
    is_there = False
    for row in gpu_train.deepspeed(args, device, dtype):
        is_there, outcome.figures["deepspeed_samples_per_s"] = True, row["samples_per_s"]
        outcome.add("Ours, DeepSpeed", row)
    if not is_there:
        outcome.notes.append("DeepSpeed is not installed: its row is left out")


def largest_trainer(size: Size, fitting: list[int], device: str, dtype: torch.dtype) -> dict | None:
    """Measure the peer at the largest micro-batch of ours that it has the memory for; None: at none."""
    for rows in sorted(fitting, reverse=True):  # its logits are those of all positions
        peer = _trainer_if_it_fits(size, rows, device, dtype)
        _free(device)  # here the error is gone, and with it what its frames held
        if peer is not None:
            return peer
    return None


def _trainer_if_it_fits(size: Size, rows: int, device: str, dtype: torch.dtype) -> dict | None:
    try:
        return trainer(size, rows, device, dtype)
    except torch.cuda.OutOfMemoryError:
        return None


def trainer(size: Size, rows: int, device: str, dtype: torch.dtype) -> dict:
    """Samples/s of transformers' Trainer, without its first update, and how far its loss is from ours."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model = gpu_train.build(size.name, device, dtype).to(dtype)
    batch = gpu_train.batch_of(size.name, rows, "cpu")
    wrapped = _Plain(model)
    with evaluating(model):
        expected = model(batch.to(device)).item()
        plain = wrapped(**_row_tensors(batch, device), num_items_in_batch=1)["loss"].item()
    steps = size.peer_steps + 1
    dataset = [
        {name: t[row] for name, t in _row_tensors(batch, "cpu").items()} for row in range(rows)
    ] * steps
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter())

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=rows,
            max_steps=steps,
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            use_cpu=device == "cpu",
            disable_tqdm=True,
        )
        Trainer(wrapped, arguments, data_collator=_stack, train_dataset=dataset, callbacks=[Clock()]).train()
    return {
        "micro_batch": rows,
        "samples_per_s": rows * (len(times) - 1) / (times[-1] - times[0]),
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None,
        "losses_apart": abs(plain - expected) / expected,
    }


class _Plain(nn.Module):
    """Splice, run the language model on padded rows, compute all logits."""

    accepts_loss_kwargs = True

    def __init__(self, mats: MATS) -> None:
        super().__init__()
        self.mats = mats

    def forward(self, clap, input_ids, attention_mask, labels, num_items_in_batch=None):
        embed = self.mats.llm.get_base_model().get_input_embeddings()
        before = embed(self.mats.before_F).expand(len(clap), -1, -1)
        text = embed(input_ids)
        embeds = torch.cat([before, self.mats.connector(clap).to(text.dtype), text], dim=1)
        front = attention_mask.new_ones(len(clap), embeds.shape[1] - attention_mask.shape[1])
        mask = torch.cat([front, attention_mask], dim=1)
        logits = self.mats.llm(inputs_embeds=embeds, attention_mask=mask, use_cache=False).logits
        all_labels = torch.cat([torch.full_like(front, IGNORED), labels], dim=1)
        loss = cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), all_labels[:, 1:].flatten(), reduction="sum"
        )
        return {"loss": loss / num_items_in_batch}


def _row_tensors(batch: TrainBatch, device: str) -> dict[str, torch.Tensor]:
    named = {"clap": batch.clap_BC, "input_ids": batch.after_BT, "attention_mask": batch.mask_BT}
    return {name: tensor.to(device) for name, tensor in (named | {"labels": batch.labels_BT}).items()}


def _stack(samples: list[dict]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def _free(device: str) -> None:
    import gc

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
