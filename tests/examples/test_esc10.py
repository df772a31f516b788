"""The ESC-10 example in miniature: its texts, its sounds, and a CLAP that the product loads."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from examples.esc10 import teacher
from examples.esc10.clap import fit_clap
from examples.esc10.classes import LABELS, NAMES, captions_by_class, label_sentences
from examples.esc10.run import CONFIG, annotations, pairs
from examples.esc10.seeds import COLUMNS, VARIANTS, accuracies, stages, table
from examples.esc10.sounds import augmented, clips_of, log_mels
from examples.esc10.texts import TEXTS_PER_CLASS, texts_of, triplets
from mats_ray.config import load_config
from mats_ray.config.base import read_yaml, validate
from mats_ray.config.bridge import STATE_FILES
from mats_ray.config.evaluate import EvaluateConfig
from mats_ray.data.bridge_state import read_pairs
from mats_ray.evaluate.benchmark import find_benchmark
from mats_ray.evaluate.samples import read_samples
from mats_ray.models.clap import load_clap
from mats_ray.tasks import prompt_halves
from mats_ray.toy.tokenizer import train_tokenizer
from tests.sounds import sndfile_bytes, tone

CAPTIONS = [
    "A baby is crying",
    "A chainsaw cuts wood",
    "A clock ticks",
    "A dog barks",
    "Fire is crackling, a campfire",
    "A helicopter passes",
    "A man sneezes",
    "Rain falls on a roof",
    "A rooster crows at dawn",
    "Waves break on the shore",
    "A dog barks in the rain",
    "A man speaks",
]


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotations")
    lines = "".join(f'{i},"{caption}"\n' for i, caption in enumerate(CAPTIONS))
    (folder / "audiocaps_train.csv").write_text("id,caption\n" + lines)
    columns = ",".join(f"caption_{i}" for i in range(1, 6))
    (folder / "clotho_train.csv").write_text(f"file,{columns}\nx.wav,A dog howls,rain,rain,a hen,a car\n")
    return captions_by_class(folder)


def test_a_caption_belongs_to_the_one_class_it_names(captions):
    assert captions["dog_bark"] == [("audiocaps", "A dog barks"), ("clotho", "A dog howls")]
    assert captions["rain"] == [("audiocaps", "Rain falls on a roof"), ("clotho", "rain")]
    assert all(captions[name] for name in NAMES)


def test_every_class_has_equally_many_captions_and_questions(captions):
    rows = triplets(captions, seed=0)

    labels = Counter(row.answer for row in rows if row.task == "classification")
    assert labels == dict.fromkeys(LABELS, TEXTS_PER_CLASS + TEXTS_PER_CLASS // 4)
    assert len({row.id for row in rows}) == len(rows)
    assert rows == triplets(captions, seed=0)


def test_the_fold_is_the_first_digit_of_a_name(tmp_path):
    for name in ("1-a-A.ogg", "4-b-A.ogg"):
        (tmp_path / "rain").mkdir(exist_ok=True)
        (tmp_path / "rain" / name).touch()

    assert clips_of(tmp_path, [4]) == [(tmp_path / "rain" / "4-b-A.ogg", NAMES.index("rain"))]


def test_mixed_sounds_keep_whole_labels():
    mels, labels = torch.randn(6, 254, 64) * 10 - 40, torch.eye(10)[:6]

    changed, mixed = augmented(mels, labels, np.random.default_rng(0))

    assert changed.shape == mels.shape
    assert changed.isfinite().all()
    torch.testing.assert_close(mixed.sum(1), torch.ones(6))


def test_the_product_loads_both_towers(captions, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "EPOCHS", 2)  # what it has learnt plays no part
    (tmp_path / "tone.wav").write_bytes(sndfile_bytes(tone(), 16_000))
    mels = log_mels([tmp_path / "tone.wav"]).repeat(40, 1, 1)
    rows = triplets(captions, seed=0)
    tokenizer = train_tokenizer([t for row in rows for t in (row.text, *prompt_halves(row.instruction))])

    fit_clap(
        tmp_path / "clap", mels, [i % 10 for i in range(40)], texts_of(captions), tokenizer, steps=1, seed=0
    )

    clap = load_clap(tmp_path / "clap")
    assert clap.dim == load_config(CONFIG).model.clap.dim
    assert (
        clap.encode_text(["A dog barks"]).shape == clap.encode_audio([tone()], 16_000).shape == (1, clap.dim)
    )


def test_a_seed_alone_decides_what_the_teacher_learns(monkeypatch):
    monkeypatch.setattr(teacher, "EPOCHS", 2)
    mels, kinds = torch.randn(40, 254, 64) * 10 - 40, torch.arange(40) % 10

    first, again, other = (teacher.fit_teacher(mels, kinds, seed=seed)(mels) for seed in (0, 0, 1))

    torch.testing.assert_close(again, first, rtol=0, atol=0)
    assert not torch.equal(other, first)


def test_every_stage_of_a_seed_has_its_seed_and_its_folder(tmp_path):
    *recipe, evaluate = stages(7, tmp_path / "7", tmp_path)

    for command in recipe:
        flags = [value for flag, value in pairwise(command) if flag == "--set"]
        config = load_config(CONFIG, flags)
        if config.bridge != "santa":
            assert config.memory_path == f"{config.model_dir}/{STATE_FILES[config.bridge]}"
        assert config.seed == 7
        inputs = (config.clap_ref, config.llm_path, config.embedded_path, config.memory_path)
        assert all(path.startswith(str(tmp_path / "7")) for path in (config.output_dir, *inputs))
    assert evaluate[evaluate.index("--model") + 1] == config.model_dir


def test_the_error_is_that_of_the_mean_over_seeds(tmp_path):
    shares = {0: (0.9, 0.7, 0.9), 1: (0.8, 0.7, 0.7), 2: (0.7, 0.7, 0.8)}
    for seed, (santa, plain, alone) in shares.items():
        of_bridges = dict.fromkeys(("mean_shift", "projection", "spectral"), plain)
        for name, value in {"santa": santa, "no_santa": plain, **of_bridges}.items():
            folder = tmp_path / str(seed) / "evaluation" / name / "esc50"
            folder.mkdir(parents=True)
            (folder / "scores.json").write_text(json.dumps({"measures": {"accuracy": {"value": value}}}))
        assert accuracies(tmp_path / str(seed)) is None  # until the report is there
        (tmp_path / str(seed) / "report.json").write_text(json.dumps({"zero-shot of CLAP alone": alone}))

    rows = table({seed: accuracies(tmp_path / str(seed)) for seed in shares}).splitlines()

    assert rows[0] == f"| seed | {' | '.join(COLUMNS)} |"
    assert rows[2] == "| 0 | 0.900 | 0.700 | 0.700 | 0.700 | 0.700 | 0.900 | +0.200 |"
    bridges = "0.700 ± 0.000 | 0.700 ± 0.000 | 0.700 ± 0.000"
    means = f"0.800 ± 0.058 | 0.700 ± 0.000 | {bridges} | 0.800 ± 0.058 | +0.100 ± 0.058"
    assert rows[-1] == f"| mean ± standard error | {means} |"


def test_the_test_fold_is_written_as_esc_50_publishes_it(tmp_path):
    for name, file in (("dog_bark", "4-1-A.ogg"), ("rain", "4-2-B.ogg"), ("rain", "3-3-A.ogg")):
        (tmp_path / "esc10" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "esc10" / name / file).touch()
    config = load_config(CONFIG, [f"output_dir={tmp_path}"])

    annotations(config, tmp_path)

    lines = (tmp_path / "esc50.csv").read_text().split()
    assert lines[0] == "filename,fold,target,category,esc10,src_file,take"
    assert lines[1:] == ["4-1-A.wav,4,0,dog,True,1,A", "4-2-B.wav,4,10,rain,True,2,B"]
    samples = read_samples(find_benchmark("esc50"), str(tmp_path / "esc50.csv")).samples
    assert [(one.id, one.references) for one in samples] == [
        ("4-1-A.wav", ("dog",)),
        ("4-2-B.wav", ("rain",)),
    ]


def test_its_evaluation_is_a_valid_configuration():
    config = validate(EvaluateConfig, read_yaml(CONFIG.with_name("evaluate.yaml")), where="evaluate.yaml")

    assert [one.name for one in config.variants] == list(VARIANTS.values())


def test_pairs_are_of_the_recordings_that_clap_was_fitted_to(tmp_path):
    for name, file in (("dog_bark", "1-1-A.ogg"), ("rain", "3-2-B.ogg"), ("rain", "4-3-A.ogg")):
        (tmp_path / "esc10" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "esc10" / name / file).touch()
    config = load_config(CONFIG, [f"output_dir={tmp_path}"])

    pairs(config, tmp_path)

    rows = list(read_pairs(str(tmp_path / "pairs.jsonl")))
    assert [path.rpartition("/")[2] for path, _ in rows] == ["1-1-A.ogg", "3-2-B.ogg"]
    assert rows[0][1] in label_sentences("dog_bark")
