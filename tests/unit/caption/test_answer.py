"""The answering stage: every clip and prompt gets its row, whatever it was batched with."""

import numpy as np
import pyarrow as pa
import pytest

from mats_ray.caption import decode
from mats_ray.caption.answer import AnswerSettings, AnswerStage
from mats_ray.caption.decode import AudioOpener, DecodeStage, file_table
from mats_ray.caption.prompts import PromptRules
from mats_ray.caption.rows import SCHEMA, Provenance
from mats_ray.config.generation import GenerationConfig
from mats_ray.data.audio import Limits, read_audio
from mats_ray.data.audio_files import AudioObject
from mats_ray.data.windows import Cut
from mats_ray.errors import AudioError, ModelError
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.storage import Environment
from tests.unit.caption.test_decode import wav
from tests.world import tiny_model_dir

GENERATION = GenerationConfig(profile="fast", max_new_tokens=10)
QUESTIONS = ["Is there a dog?", "Does it rain on the roof?"]


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


def answer(model, paths, questions=(), *, batch_size=3, missing=None, labels=(), **cut):
    prompts = PromptRules(shared=questions, labels=labels).of_file()
    files = [
        (
            AudioObject(path=path, size=1, etag=""),
            [prompts[n] for n in (missing or {}).get(path, range(len(prompts)))],
        )
        for path in paths
    ]
    settings = AnswerSettings(
        model=model,
        provenance=Provenance(model_id="m@1", generation=GENERATION),
        labels=labels,
        batch_size=batch_size,
        num_threads=1,
        device="cpu",
    )
    opener = AudioOpener(environment=Environment(), limits=Limits(max_seconds=60))
    decode_stage = DecodeStage(opener=opener, batch_size=batch_size, **cut)
    answer_stage = AnswerStage(settings)
    tables = [answer_stage(table) for table in decode_stage(file_table(files))]
    assert all(table.schema == SCHEMA for table in tables)
    return pa.concat_tables(tables).to_pylist()


def test_a_row_for_every_file(model, paths):
    rows = answer(model, paths)

    assert [row["path"] for row in rows] == paths
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "error", "ok", "ok"]
    assert [row["segment_end_s"] for row in rows] == [1.0, 4.0, 9.0, None, 2.0, 0.01]
    assert all(row["caption"] and row["num_tokens"] for row in rows if row["status"] == "ok")
    assert len({row["caption"] for row in rows}) > 3  # the clips differ for the model at all


def test_the_answers_are_the_pipelines_own(model, paths):
    encoder, answerer = AudioEncoder.from_pretrained(model), Answerer.from_pretrained(model)
    embeddings = [encoder.encode([read_audio(path)]) for path in paths if "note" not in path]
    alone = [
        answerer.answer(one, [question], generation=GENERATION)[0]
        for one in embeddings
        for question in QUESTIONS
    ]

    rows = [row for row in answer(model, paths, QUESTIONS) if row["status"] == "ok"]

    assert [(row["answer"], row["num_tokens"]) for row in rows] == [
        (one.text, one.num_tokens) for one in alone
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_the_batch_size_changes_no_row(model, paths, batch_size):
    assert answer(model, paths, QUESTIONS, batch_size=batch_size) == answer(model, paths, QUESTIONS)


def test_files_times_questions(model, paths):
    rows = answer(model, paths, QUESTIONS)

    assert [(row["path"], row["prompt"]) for row in rows] == [(p, q) for p in paths for q in QUESTIONS]
    assert {row["task"] for row in rows} == {"qa"}


def test_only_missing_prompts_are_answered(model, paths):
    missing = {paths[0]: [1], paths[3]: [0], paths[4]: []}
    rows = answer(model, [*paths[:1], *paths[3:5]], QUESTIONS, missing=missing)

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
    answer(model, paths, QUESTIONS)

    assert sorted(encoded) == sorted(path for path in paths if "note" not in path)


def test_a_clip_that_clap_refuses_changes_no_other_row(model, paths, monkeypatch):
    expected = answer(model, paths)
    encode = AudioEncoder.encode

    def refusing(self, clips):
        if any(clip.name == paths[1] for clip in clips):
            raise AudioError(f"{paths[1]} cannot be encoded", code="empty")
        return encode(self, clips)

    monkeypatch.setattr(AudioEncoder, "encode", refusing)
    rows = answer(model, paths)

    assert (rows[1]["status"], rows[1]["error_code"], rows[1]["error"]) == (
        "error",
        "empty",
        f"{paths[1]} cannot be encoded",
    )
    assert rows[:1] + rows[2:] == expected[:1] + expected[2:]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_a_prompt_beyond_the_models_positions_is_an_error_row_of_its_own(model, paths, batch_size):
    expected = answer(model, paths, QUESTIONS)

    rows = answer(model, paths, [QUESTIONS[0], "Is it loud? " * 100, QUESTIONS[1]], batch_size=batch_size)

    assert [row for number, row in enumerate(rows) if number % 3 != 1] == expected
    too_long = [row for row in rows[1::3] if "note" not in row["path"]]
    assert {(row["status"], row["error_code"], row["answer"]) for row in too_long} == {
        ("error", "prompt_too_long", None)
    }
    assert all("the language model has 512 positions" in row["error"] for row in too_long)


def test_numbers_that_are_not_finite_are_an_error_row_of_their_own(model, paths, monkeypatch):
    expected, encode = answer(model, paths), AudioEncoder.encode

    def with_nan(self, clips):
        embeddings = encode(self, clips)
        embeddings[[clip.name == paths[2] for clip in clips]] = np.nan
        return embeddings

    monkeypatch.setattr(AudioEncoder, "encode", with_nan)
    rows = answer(model, paths)

    assert (rows[2]["error_code"], rows[2]["caption"]) == ("not_finite", None)
    assert rows[:2] + rows[3:] == expected[:2] + expected[3:]


def test_a_missing_model_is_an_error(paths, tmp_path):
    with pytest.raises(ModelError, match="no model directory"):
        answer(str(tmp_path / "nowhere"), paths)


def test_a_window_has_the_answer_that_it_has_as_a_file(model, paths, tmp_path):
    rows = answer(model, paths[:4], cut=Cut(seconds=3, hop=2), batch_size=2)

    long = [row for row in rows if row["path"] == paths[2]]  # 9 s
    times = [(row["segment_start_s"], row["segment_end_s"], row["is_last_segment"]) for row in long]
    assert times == [(0, 3, False), (2, 5, False), (4, 7, False), (6, 9, True)]
    assert [row["path"] for row in rows] == [paths[0]] + [paths[1]] * 2 + [paths[2]] * 4 + [paths[3]]
    sound = read_audio(paths[2]).samples
    for row in long:
        start, end = (round(row[f"segment_{name}_s"] * 16_000) for name in ("start", "end"))
        (tmp_path / "alone.wav").write_bytes(wav(sound[start:end]))
        (alone,) = answer(model, [str(tmp_path / "alone.wav")])
        assert row["caption"] == alone["caption"]


def test_labels_are_scored(model, paths):
    labels = ["dog barks", "rain falls", "bell rings"]
    rows = answer(model, paths[:4], ["Is there a dog?"], labels=labels)
    answered, classified = rows[::2], rows[1::2]

    assert [row["task"] for row in rows] == ["qa", "classification"] * 4
    assert [row["status"] for row in classified] == ["ok", "ok", "ok", "error"]
    assert all(row["num_tokens"] and row["scores"] is None for row in answered[:3])
    clap = AudioEncoder.from_pretrained(model).clap
    for row in classified[:3]:
        clip = read_audio(row["path"])
        (cosine_N,) = (
            clap.encode_audio([clip.samples], clip.sample_rate) @ clap.encode_text(labels).T
        ).numpy()
        assert row["answer"] == row["scores"][0]["label"] == labels[cosine_N.argmax()]
        assert {one["label"]: one["similarity"] for one in row["scores"]} == pytest.approx(
            dict(zip(labels, cosine_N.tolist(), strict=True)), abs=1e-5
        )
        assert sum(one["score"] for one in row["scores"]) == pytest.approx(1)


@pytest.fixture
def opened(monkeypatch):
    """Paths of the files opened to be decoded, in every stage."""
    opened, open_audio = [], decode.open_audio

    def counting(source, *, name, limits):
        opened.append(name)
        return open_audio(source, name=name, limits=limits)

    monkeypatch.setattr(decode, "open_audio", counting)
    return opened


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_a_long_file_is_decoded_once_and_answered_like_one_that_is_not(
    model, paths, opened, monkeypatch, batch_size
):
    good = [path for path in paths if "note" not in path]
    expected = answer(model, good, QUESTIONS)
    opened.clear()
    monkeypatch.setattr(decode, "BATCH_BYTES", 4 * 3 * 16_000)  # longer than 3 s is long

    clap = Cut(seconds=4, hop=4)
    rows = answer(model, good, QUESTIONS, batch_size=batch_size, long_cut=lambda: clap)

    assert opened == good
    assert rows == expected
    assert [row["segment_end_s"] for row in rows[::2]] == [1.0, 4.0, 9.0, 2.0, 0.01]


@pytest.mark.parametrize("batch_size", [2, 100])
def test_pooled_windows_have_one_row(model, paths, batch_size):
    rows = answer(model, paths, batch_size=batch_size, cut=Cut(seconds=2, hop=1), pooled=True)

    assert [(row["path"], row["segment"], row["is_last_segment"]) for row in rows] == [
        (path, 0, True) for path in paths
    ]
    times = [(row["segment_start_s"], row["segment_end_s"]) for row in rows]
    assert times == [(0, 1), (0, 4), (0, 9), (None, None), (0, 2), (0, 0.01)]
    assert [row["error_code"] for row in rows if row["status"] == "error"] == ["not_audio"]
