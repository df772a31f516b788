"""MATS on real sound, small: fit CLAP, train on text alone, answer about recordings that nothing has seen.

python -m examples.esc10.run texts --data ../shared/data    # triplets of real captions
python -m examples.esc10.run clap --data ../shared/data     # CLAP on folds 1 to 3
python -m examples.esc10.run llm --data ../shared/data      # a tiny language model on the captions
mats embed --config examples/esc10/config.yaml              # from here the product's own commands
mats memory --config examples/esc10/config.yaml
mats train --config examples/esc10/config.yaml
python -m examples.esc10.run pairs --data ../shared/data    # folds 1 to 3 with texts, for other bridges
python -m examples.esc10.run report --data ../shared/data   # fold 4: CLAP alone, Santa on and off, captions
python -m examples.esc10.run annotations --data ../shared/data   # fold 4 as ESC-50 publishes it
mats evaluate --config examples/esc10/evaluate.yaml               # accuracy with each bridge
"""

import argparse
import csv
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from torch.nn.functional import normalize
from transformers import AutoTokenizer

from examples.esc10.clap import fit_clap
from examples.esc10.classes import LABELS, NAMES, TARGETS, captions_by_class, label_sentences
from examples.esc10.sounds import clips_of, log_mels
from examples.esc10.texts import texts_of, triplets
from mats_ray.config import RunConfig, load_config
from mats_ray.config.toy import ToyConfig
from mats_ray.data.audio import read_audio
from mats_ray.data.triplets import triplet_table
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.models.bridges.bridge import NoBridge
from mats_ray.models.clap import CLAP
from mats_ray.tasks import Task, instruction_for, prompt_halves
from mats_ray.toy.llm import pretrain_llm
from mats_ray.toy.tokenizer import train_tokenizer

CONFIG = Path(__file__).with_name("config.yaml")
TRAIN_FOLDS, TEST_FOLDS = (1, 2, 3), (4,)
CLAP_STEPS, VOCABULARY = 900, 2500
LANGUAGE_MODEL = ToyConfig(llm_dim=192, llm_layers=3, llm_steps=500, llm_batch_size=12)


def texts(config: RunConfig, data: Path) -> None:
    """Write the triplets, and the tokenizer that both small models share."""
    rows = triplets(captions_by_class(data / "annotations"), seed=config.seed)
    Path(config.triplets_path).mkdir(parents=True, exist_ok=True)
    pq.write_table(triplet_table(rows), Path(config.triplets_path) / "esc10.parquet")
    spelt = (text for row in rows for text in (row.text, *prompt_halves(row.instruction), row.answer))
    train_tokenizer(spelt, vocab_size=VOCABULARY).save_pretrained(_tokenizer(config))


def clap(config: RunConfig, data: Path) -> None:
    """Fit the CLAP that MATS uses."""
    paths, kinds = zip(*clips_of(data / "esc10", TRAIN_FOLDS), strict=True)
    class_texts = texts_of(captions_by_class(data / "annotations"))
    tokenizer = AutoTokenizer.from_pretrained(_tokenizer(config))
    where, seed = Path(config.clap_ref), config.seed
    fit_clap(where, log_mels(paths), kinds, class_texts, tokenizer, steps=CLAP_STEPS, seed=seed)


def llm(config: RunConfig, data: Path) -> None:
    """Fit the language model that MATS uses: it reads a text and answers as the triplets do."""
    rows = triplets(captions_by_class(data / "annotations"), seed=config.seed)
    tokenizer = AutoTokenizer.from_pretrained(_tokenizer(config))
    dialogues = [list(dialogue) for _, dialogue in groupby(rows, lambda row: row.text)]
    pretrain_llm(Path(config.llm_path), dialogues, tokenizer, LANGUAGE_MODEL, seed=config.seed)


def _tokenizer(config: RunConfig) -> str:
    return str(Path(config.output_dir) / "tokenizer")


def annotations(config: RunConfig, data: Path) -> None:
    """Write fold 4 in the columns of ESC-50's ``esc50.csv``; the names are those of the recordings here."""
    rows = [["filename", "fold", "target", "category", "esc10", "src_file", "take"]]
    for path, kind in clips_of(data / "esc10", TEST_FOLDS):
        fold, source, take = path.stem.split("-")
        category = LABELS[kind].replace(" ", "_")
        rows.append([f"{path.stem}.wav", fold, TARGETS[NAMES[kind]], category, "True", source, take])
    with (Path(config.output_dir) / "esc50.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def pairs(config: RunConfig, data: Path) -> None:
    """Write ``pairs.jsonl``: the clips that CLAP was fitted to, each with a sentence of its label."""
    rng = np.random.default_rng(config.seed)
    lines = [
        {"path": str(path.resolve()), "text": str(rng.choice(label_sentences(NAMES[kind])))}
        for path, kind in clips_of(data / "esc10", TRAIN_FOLDS)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (Path(config.output_dir) / "pairs.jsonl").write_text(text, "utf-8")


def report(config: RunConfig, data: Path) -> dict[str, object]:
    """Evaluate the trained model on fold 4, with Santa and without, and write ``report.json``."""
    paths, kinds = zip(*clips_of(data / "esc10", TEST_FOLDS), strict=True)
    clips = [read_audio(path) for path in paths]
    encoder, answerer = (one.from_pretrained(config.model_dir) for one in (AudioEncoder, Answerer))
    audio_NC = encoder.encode(clips)
    zero_shot = _zero_shot(encoder.clap, audio_NC)
    results: dict[str, object] = {
        "clips": len(clips),
        "zero-shot of CLAP alone": _share(zero_shot == np.array(kinds)),
    }
    without = replace(answerer, bridge=NoBridge())
    for name, one in (("Santa on", answerer), ("Santa off", without)):
        answers = one.answer(audio_NC, [instruction_for(Task.CLASSIFICATION)] * len(clips))
        results[name] = _share(
            [LABELS[kind] == answer.text for kind, answer in zip(kinds, answers, strict=True)]
        )
        results[f"answers that are no label, {name}"] = sum(answer.text not in LABELS for answer in answers)
    some = range(len(clips) // 20, len(clips), len(clips) // 10)
    captions = answerer.answer(audio_NC[list(some)], [instruction_for(Task.CAPTION)] * len(some))
    results["captions"] = {
        f"{LABELS[kinds[i]]} ({paths[i].name})": one.text for i, one in zip(some, captions, strict=True)
    }
    (Path(config.output_dir) / "report.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    return results


def _zero_shot(clap: CLAP, audio_NC: np.ndarray) -> np.ndarray:
    """The class whose label sentences lie nearest: the accuracy of CLAP without a language model."""
    sentences = [sentence for name in NAMES for sentence in label_sentences(name)]
    text_KC = clap.encode_text(sentences).view(len(NAMES), -1, clap.dim).mean(1)
    return np.argmax(audio_NC @ normalize(text_KC, dim=1).numpy().T, axis=1)


def _share(right: Sequence[bool] | np.ndarray) -> float:
    return round(float(np.mean(right)), 4)


def main() -> None:
    """Parse and run one stage."""
    stages = {stage.__name__: stage for stage in (texts, clap, llm, pairs, report, annotations)}
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=how)
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--data", type=Path, required=True, help="folder with esc10/ and annotations/")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for mats")
    args = parser.parse_args()
    config, started = load_config(CONFIG, args.set), time.monotonic()
    result = stages[args.stage](config, args.data)
    if result is not None:
        print(json.dumps(result, indent=2))
    print(f"{args.stage}: {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
