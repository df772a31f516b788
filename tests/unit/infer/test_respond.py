"""The answering stage: every clip and prompt gets its row, whatever it was batched with."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from mats_ray.config.infer import GenerationConfig
from mats_ray.data.audio import read_audio
from mats_ray.errors import AudioError, ModelError
from mats_ray.infer.decode import LISTED, Decoder
from mats_ray.infer.pipeline import AudioEncoder, MATSPipeline
from mats_ray.infer.respond import Responder, ResponderSettings
from mats_ray.infer.rows import SCHEMA, Respondent, prompts_for
from tests.unit.infer.test_decode import wav
from tests.world import tiny_model_dir

GENERATION = GenerationConfig(profile="fast", max_new_tokens=10)
QUESTIONS = ["Is there a dog?", "Does it rain on the roof?"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_model_dir(tmp_path_factory.mktemp("world")))


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    draw = np.random.default_rng(0)
    made = []
    for i, (seconds, rate, pitch, loud) in enumerate(
        [
            (1, 16_000, 60, 0.0),
            (4, 16_000, 2000, 0.4),
            (9, 16_000, 200, 0.1),
            (2, 44_100, 700, 0.0),
            (0.01, 8_000, 50, 0.3),
        ]
    ):
        time = np.arange(round(seconds * rate)) / rate
        made.append(folder / f"{i}.wav")
        made[-1].write_bytes(
            wav(0.4 * np.sin(2 * np.pi * pitch * time) + loud * draw.uniform(-1, 1, len(time)), rate)
        )
    (folder / "note.wav").write_text("no sound")
    return [str(path) for path in [*made[:3], folder / "note.wav", *made[3:]]]


def respond(model, paths, questions=(), *, batch_size=3, owed=None):
    prompts = prompts_for(questions)
    rows = [
        {"path": path, "etag": "e", "size": 1, "prompts": (owed or {}).get(path, list(range(len(prompts))))}
        for path in paths
    ]
    settings = ResponderSettings(
        model=model,
        respondent=Respondent(model_id="m@1", generation=GENERATION),
        prompts=prompts,
        batch_size=batch_size,
        num_threads=1,
        device="cpu",
    )
    decoder = Decoder(files=None, max_seconds=60, batch_size=batch_size)
    responder = Responder(settings)
    tables = [responder(table) for table in decoder(pa.Table.from_pylist(rows, schema=LISTED))]
    assert all(table.schema == SCHEMA for table in tables)
    return pa.concat_tables(tables).to_pylist()


def test_a_row_for_every_file(model, paths):
    rows = respond(model, paths)

    assert [row["path"] for row in rows] == paths
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "error", "ok", "ok"]
    assert [row["segment_end_s"] for row in rows] == [1.0, 4.0, 9.0, None, 2.0, 0.01]
    assert all(row["caption"] and row["num_tokens"] for row in rows if row["status"] == "ok")
    assert len({row["caption"] for row in rows}) > 3  # the clips are told apart at all


def test_the_rows_say_what_the_pipeline_says(model, paths):
    pipeline = MATSPipeline.from_pretrained(model)
    embeddings = [pipeline.encoder.encode([read_audio(path)]) for path in paths if "note" not in path]
    alone = [
        pipeline.answerer.answer(one, [question], generation=GENERATION)[0]
        for one in embeddings
        for question in QUESTIONS
    ]

    rows = [row for row in respond(model, paths, QUESTIONS) if row["status"] == "ok"]

    assert [(row["answer"], row["num_tokens"]) for row in rows] == [
        (one.text, one.num_tokens) for one in alone
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_the_batch_size_changes_no_word(model, paths, batch_size):
    assert respond(model, paths, QUESTIONS, batch_size=batch_size) == respond(model, paths, QUESTIONS)


def test_files_times_questions(model, paths):
    rows = respond(model, paths, QUESTIONS)

    assert [(row["path"], row["prompt"]) for row in rows] == [(p, q) for p in paths for q in QUESTIONS]
    assert {row["task"] for row in rows} == {"qa"}


def test_only_what_is_owed_is_asked(model, paths):
    owed = {paths[0]: [1], paths[3]: [0], paths[4]: []}
    rows = respond(model, [*paths[:1], *paths[3:5]], QUESTIONS, owed=owed)

    assert [(row["path"], row["prompt"]) for row in rows] == [
        (paths[0], QUESTIONS[1]),
        (paths[3], QUESTIONS[0]),
    ]


def test_each_clip_is_encoded_once(model, paths, monkeypatch):
    encoded = []
    encode = AudioEncoder.encode

    def counting(self, clips):
        encoded.extend(clip.name for clip in clips)
        return encode(self, clips)

    monkeypatch.setattr(AudioEncoder, "encode", counting)
    respond(model, paths, QUESTIONS)

    assert sorted(encoded) == sorted(path for path in paths if "note" not in path)


def test_a_clip_that_clap_refuses_spoils_no_other(model, paths, monkeypatch):
    expected = respond(model, paths)
    encode = AudioEncoder.encode

    def choosy(self, clips):
        if any(clip.name == paths[1] for clip in clips):
            raise AudioError(f"{paths[1]} displeases", code="empty")
        return encode(self, clips)

    monkeypatch.setattr(AudioEncoder, "encode", choosy)
    rows = respond(model, paths)

    assert (rows[1]["status"], rows[1]["error_code"], rows[1]["error"]) == (
        "error",
        "empty",
        f"{paths[1]} displeases",
    )
    assert rows[:1] + rows[2:] == expected[:1] + expected[2:]


def test_no_model_is_told(paths, tmp_path):
    with pytest.raises(ModelError, match="no model directory"):
        respond(str(tmp_path / "nowhere"), paths)
