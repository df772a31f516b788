"""The pipeline: an answer depends on clip and question alone; a model that is not whole does not start."""

import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest
import torch

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.generation import PROFILES, GenerationConfig
from mats_ray.errors import AnswerError, AudioError, ModelError
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.batching import BatchingEngine
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.models.clap import load_clap
from mats_ray.models.santa import SantaMemory
from mats_ray.tasks import Task
from mats_ray.types import AudioClip, Request
from tests.world import CLAP_DIM, tiny_clap

LENGTHS_AND_RATES = [(0.3, 16_000), (4.0, 16_000), (9.5, 16_000), (2.0, 44_100), (0.5, 8_000)]
QUESTIONS = ["dog?", "Is there a dog on the roof while rain falls and a siren wails?"]


def clip(number):
    """Five clips of different lengths and rates, loud and quiet, tones and noise."""
    seconds, rate = LENGTHS_AND_RATES[number]
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(number).uniform(-1, 1, len(time))
    samples = 0.4 * np.sin(2 * np.pi * (90, 2000, 200, 700, 50)[number] * time) + (number % 2) * 0.4 * noise
    return AudioClip(samples=samples.astype(np.float32), sample_rate=rate, name=f"{number}.wav")


REQUESTS = [
    *(Request(audio=clip(number)) for number in range(5)),
    *(
        Request(audio=clip(number), task=Task.QA, question=question)
        for number in range(5)
        for question in QUESTIONS
    ),
    Request(audio=clip(3), task=Task.CLASSIFICATION),
    Request(audio=clip(0), task=Task.MUSIC_CAPTION),
]


@pytest.fixture(scope="module")
def pipeline(model_dir):
    return MATSPipeline.from_pretrained(model_dir)


@pytest.fixture(scope="module")
def answerer(model_dir):
    return Answerer.from_pretrained(model_dir)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_half_precision_language_model_answers_beside_float32_parts(copied, dtype, profile):
    tree = json.loads((copied / "config.json").read_text())
    tree["model"]["llm"]["dtype"] = dtype
    (copied / "config.json").write_text(json.dumps(tree))
    generation = GenerationConfig(profile=profile, max_new_tokens=8)

    pipeline = MATSPipeline.from_pretrained(copied)
    answerer = dataclasses.replace(Answerer.from_pretrained(copied), generation=generation)
    engine = BatchingEngine(answerer, max_requests=4)
    answers = dataclasses.replace(pipeline, engine=engine)(REQUESTS[:4])

    model = answerer.model
    base = [p for name, p in model.llm.named_parameters() if "lora_" not in name]
    assert {p.dtype for p in base} == {getattr(torch, dtype)}
    assert {p.dtype for name, p in model.named_parameters() if "lora_" in name} == {torch.float32}
    assert {p.dtype for p in model.connector.parameters()} == {torch.float32}
    assert all(answer.num_tokens for answer in answers)


@pytest.fixture
def copied(model_dir, tmp_path):
    """The model directory with its base models, in a place where a test may spoil it."""
    shutil.copytree(model_dir.parent, tmp_path / "world")
    return tmp_path / "world" / "model"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("max_requests", [3, 64])
def test_an_answer_in_a_batch_is_the_answer_alone(pipeline, answerer, profile, max_requests):
    answerer = dataclasses.replace(answerer, generation=GenerationConfig(profile=profile, max_new_tokens=8))
    engine = BatchingEngine(answerer, max_requests=max_requests)
    pipeline = dataclasses.replace(pipeline, engine=engine)

    together = pipeline(REQUESTS)

    assert together == [pipeline([request])[0] for request in REQUESTS]
    assert together[::-1] == pipeline(REQUESTS[::-1])
    assert len({answer.text for answer in together}) > 5  # the model distinguishes the clips


def test_the_same_question_has_the_same_answer(pipeline):
    torch.rand(3)  # chance has no part in it
    assert pipeline(REQUESTS[:3]) == pipeline(REQUESTS[:3])


def test_captions_and_answers_are_requests_of_one(pipeline):
    assert pipeline.caption(clip(1)) == pipeline([Request(audio=clip(1))])[0]
    assert (
        pipeline.ask(clip(1), QUESTIONS[0])
        == pipeline([Request(audio=clip(1), task=Task.QA, question=QUESTIONS[0])])[0]
    )
    assert pipeline.ask(clip(1), f" {QUESTIONS[0]} ") == pipeline.ask(clip(1), QUESTIONS[0])


def test_a_clip_without_a_finite_embedding_has_no_answer(pipeline):
    huge = AudioClip(samples=np.full(16_000, 3e29, np.float32), sample_rate=16_000, name="huge.wav")
    calls = [
        lambda: pipeline([Request(audio=clip(0)), Request(audio=huge)]),
        lambda: pipeline.ask(huge, QUESTIONS[0]),
        lambda: list(pipeline.stream(Request(audio=huge))),
    ]

    for call in calls:
        with pytest.raises(AudioError, match=r"^huge\.wav: its CLAP embedding is not finite") as caught:
            call()
        assert caught.value.code == "not_finite"


def test_no_request_no_answer(pipeline):
    assert pipeline([]) == []


@pytest.mark.parametrize(
    ("task", "question"), [(Task.QA, None), (Task.QA, "  "), (Task.CAPTION, "Is there a dog?")]
)
def test_a_question_requires_the_task_that_has_one(pipeline, task, question):
    with pytest.raises(ValueError, match="question"):
        pipeline([Request(audio=clip(0), task=task, question=question)])


def test_an_answer_has_its_length_and_finish_reason(pipeline, answerer):
    embeddings = pipeline.encoder.encode([clip(0)])
    for num_tokens in (1, 3):
        generation = GenerationConfig(profile="fast", max_new_tokens=num_tokens)
        (answer,) = answerer.answer(embeddings, [QUESTIONS[0]], generation=generation)

        assert answer.num_tokens <= num_tokens
        assert answer.finish_reason == ("length" if answer.num_tokens == num_tokens else "stop")


def test_clips_of_any_length_and_rate_keep_their_order(pipeline):
    clips = [clip(number) for number in range(5)]
    together_NC = pipeline.encoder.encode(clips)

    assert together_NC.shape == (5, CLAP_DIM)
    assert together_NC.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together_NC, axis=1), 1, atol=1e-5)
    for row, alone in enumerate(clips):
        np.testing.assert_allclose(together_NC[row], pipeline.encoder.encode([alone])[0], atol=1e-5)
    pairs = itertools.combinations(together_NC, 2)
    assert all(np.abs(one - other).max() > 1e-3 for one, other in pairs)


def test_a_long_clip_is_embedded_as_the_model_is_configured(copied):
    def embedded(long_audio):
        tree = json.loads((copied / "config.json").read_text())
        tree["model"]["clap"]["long_audio"] = long_audio
        (copied / "config.json").write_text(json.dumps(tree))
        return AudioEncoder.from_pretrained(copied).encode([clip(2)])[0]

    start = AudioClip(samples=clip(2).samples[: 4 * 16_000], sample_rate=16_000)
    np.testing.assert_allclose(
        embedded("first"), AudioEncoder.from_pretrained(copied).encode([start])[0], atol=1e-5
    )
    assert np.abs(embedded("windows") - embedded("first")).max() > 1e-3


def test_santa_is_left_out_of_embeddings_that_are_already_moved(pipeline, answerer):
    embeddings = pipeline.encoder.encode([clip(0), clip(1)])
    moved = answerer.move(embeddings).numpy()

    assert answerer.answer(moved, QUESTIONS, moved=True) == answerer.answer(embeddings, QUESTIONS)


def test_without_santa_audio_stays_where_it_is_and_no_memory_is_needed(copied):
    tree = json.loads((copied / "config.json").read_text())
    tree["santa"]["enabled"] = False
    (copied / "config.json").write_text(json.dumps(tree))
    (copied / "santa_memory.safetensors").unlink()
    embeddings = np.eye(2, CLAP_DIM, dtype=np.float32)

    np.testing.assert_array_equal(Answerer.from_pretrained(copied).move(embeddings).numpy(), embeddings)


def test_an_instruction_for_each_embedding(answerer):
    with pytest.raises(ValueError, match="2 embeddings but 1 instructions"):
        answerer.answer(np.eye(2, CLAP_DIM), QUESTIONS[:1])


def test_both_parts_alone_are_the_whole(model_dir, pipeline):
    encoder, answerer = AudioEncoder.from_pretrained(model_dir), Answerer.from_pretrained(model_dir)

    answers = answerer.answer(encoder.encode([clip(1)]), [QUESTIONS[0]])

    assert answers == [pipeline.ask(clip(1), QUESTIONS[0])]


def test_a_folder_of_models_can_be_moved(copied, pipeline):
    moved = MATSPipeline.from_pretrained(copied)

    assert moved.caption(clip(1)) == pipeline.caption(clip(1))
    assert moved.model_id == pipeline.model_id
    assert moved.model_id.startswith("tiny@")


def test_another_clap_than_the_one_trained_with_is_refused_naming_both(copied):
    trained_with = load_clap(copied.parent / "clap").identity
    shutil.rmtree(copied.parent / "clap")
    found = load_clap(tiny_clap(copied.parent / "clap", seed=1)).identity

    with pytest.raises(ModelError) as caught:
        MATSPipeline.from_pretrained(copied)

    assert str(caught.value) == f"the model was trained with {trained_with}, the one found is {found}"


def test_a_memory_of_another_width_is_refused(copied):
    SantaMemory.build(torch.eye(7), num_clusters=2).save(copied / "santa_memory.safetensors")

    with pytest.raises(
        ModelError, match=rf"santa_memory\.safetensors is 7-d, the model's CLAP is {CLAP_DIM}-d$"
    ):
        MATSPipeline.from_pretrained(copied)


PARTS = [
    "model/config.json",
    "model/generation_config.json",
    "model/mapper.safetensors",
    "model/adapter_config.json",
    "model/adapter_model.safetensors",
    "model/santa_memory.safetensors",
    "model/tokenizer.json",
    "clap/config.json",
    "clap/model.safetensors",
    "clap/preprocessor_config.json",
    "llm/config.json",
    "llm/model.safetensors",
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["missing", "cut off", "empty"])
def test_a_part_that_is_not_whole_is_one_line_that_names_its_place(copied, part, damage):
    path = copied.parent / part
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if damage == "cut off" else 0])

    with pytest.raises(ModelError) as caught:
        MATSPipeline.from_pretrained(copied)

    message = str(caught.value)
    assert str(path.parent) in message
    assert "\n" not in message


def test_no_model_directory_is_named(tmp_path):
    with pytest.raises(ModelError, match=f"^no model directory at {tmp_path / 'none'}$"):
        MATSPipeline.from_pretrained(tmp_path / "none")


@pytest.mark.parametrize("profile", PROFILES)
def test_prompt_and_answer_may_fill_the_models_positions_and_no_more(answerer, profile):
    room = answerer.model.max_positions - answerer.count_prompt(answerer.prompts.after(QUESTIONS[1]))
    embedding = np.ones((1, CLAP_DIM), np.float32)

    def answer(max_new_tokens):
        generation = GenerationConfig(profile=profile, max_new_tokens=max_new_tokens)
        return answerer.answer(embedding, [QUESTIONS[1]], generation=generation)

    assert answer(room)
    with pytest.raises(AnswerError, match=f"up to {room + 1} are 513, the language model has 512 positions"):
        answer(room + 1)


def test_a_question_that_is_too_long_is_one_clear_error(pipeline):
    question, request = (
        "Is it loud? " * 100,
        Request(audio=clip(0), task=Task.QA, question="Is it loud? " * 100),
    )

    with pytest.raises(AnswerError, match=r"a prompt of \d+ tokens .* shorten the question") as caught:
        pipeline.ask(clip(0), question)
    with pytest.raises(AnswerError, match="shorten the question"):
        list(pipeline.stream(request))

    assert caught.value.code == "prompt_too_long"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e25])
@pytest.mark.parametrize("moved", [True, False])
def test_an_embedding_that_is_not_finite_has_no_answer(answerer, bad, moved):
    embeddings = np.ones((2, CLAP_DIM), np.float32)
    embeddings[1, 3] = bad

    with pytest.raises(AnswerError, match="not finite") as caught:
        answerer.answer(embeddings, QUESTIONS, moved=moved)

    assert caught.value.code == "not_finite"


STREAMED = Request(audio=clip(1), task=Task.QA, question="Is there a dog?")


def test_a_stream_is_the_answer_in_pieces(pipeline):
    deltas = list(pipeline.stream(STREAMED))

    assert "".join(delta.text for delta in deltas) == deltas[-1].answer.text
    assert deltas[-1].answer == pipeline.ask(STREAMED.audio, STREAMED.question)
    assert len(deltas) > 2


def test_the_same_seed_draws_the_same_answer(pipeline):
    def text_of(seed):
        return list(pipeline.stream(STREAMED, AnswerOptions(temperature=1.5, seed=seed)))[-1].answer.text

    assert text_of(1) == text_of(1)
    assert len({text_of(seed) for seed in range(5)}) > 1


def test_a_stop_text_ends_a_stream(pipeline):
    whole = pipeline.ask(STREAMED.audio, STREAMED.question).text
    stop = whole[4:7]

    *_, last = pipeline.stream(STREAMED, AnswerOptions(stop=(stop,)))

    assert last.answer.text == whole[: whole.index(stop)].rstrip()
    assert last.answer.finish_reason == "stop"


def test_the_prompt_is_counted_with_its_prefix(answerer):
    instruction = "Is there a dog?"

    spliced = answerer.model.prompt(answerer.move(np.ones((1, 24))), [answerer.prompts.after(instruction)])

    assert answerer.count_prompt(answerer.prompts.after(instruction)) == int(spliced.mask_BS.sum())
