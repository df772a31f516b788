"""The systems the demo compares: each gets the same questions, and the embeddings of its name."""

import numpy as np
import pytest
import torch

from mats_ray.data.audio import read_audio
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.toy.demo import systems
from mats_ray.toy.demo.testset import score, write_test_set
from mats_ray.toy.world import split_of, text_triplets


@pytest.fixture(scope="module")
def clips(world, tmp_path_factory):
    return write_test_set(world, tmp_path_factory.mktemp("audio"))[:5]


@pytest.fixture(scope="module")
def audio_NC(clips, model_dir):  # noqa: N802  (as the modules call it)
    return systems.encode_clips(AudioEncoder.from_pretrained(model_dir), clips)


def test_clips_are_encoded_as_by_the_pipeline(clips, model_dir, audio_NC):
    pipeline = MATSPipeline.from_pretrained(model_dir)

    assert audio_NC.shape == (5, 24)
    np.testing.assert_allclose(
        audio_NC[2], pipeline.encoder.encode([read_audio(clips[2].path)])[0], atol=1e-5
    )


def test_descriptions_are_read_by_the_same_clap(clips, clap):
    text_NC = systems.encode_descriptions(clap, clips)

    assert text_NC.shape == (5, 16)
    np.testing.assert_allclose(text_NC[1], clap.encode_text([clips[1].description])[0], atol=1e-5)


def test_a_system_is_scored_on_its_own_captions_and_answers(clips, model_dir, audio_NC, monkeypatch):
    """In batches that split captions from questions and a clip's questions from each other."""
    monkeypatch.setattr(systems, "BATCH_SIZE", 4)
    answerer = Answerer.from_pretrained(model_dir)

    def answers(instructions, row):
        rows = np.repeat(audio_NC[row : row + 1], len(instructions), axis=0)
        return [one.text for one in answerer.answer(rows, instructions, moved=True)]

    captions = [answers(["Describe the following audio in a caption."], row)[0] for row in range(5)]
    answered = [answers([qa.question for qa in clip.questions], row) for row, clip in enumerate(clips)]

    found, expected = systems.evaluate(model_dir, audio_NC, clips), score(clips, captions, answered)
    assert found.captions == expected.captions
    assert found.num_right_N.tolist() == expected.num_right_N.tolist()


def test_the_baseline_gives_the_most_frequent_training_answer(world, clips):
    training = text_triplets(world, split_of(world))
    yes = sum(qa.answer == "yes" for clip in clips for qa in clip.questions)

    blind = systems.majority_baseline(clips, training)

    # yes and no are equally frequent and by far the most; either is right once per clip
    assert blind.questions_right == pytest.approx(yes / blind.num_questions_N.sum())
    assert len(blind.captions) == 5


def test_santa_moves_audio_by_the_models_own_settings(model_dir, audio_NC):
    moved_NC = systems.apply_santa(model_dir, audio_NC)

    np.testing.assert_allclose(moved_NC, Answerer.from_pretrained(model_dir).move(audio_NC), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(moved_NC, axis=1), 1, atol=1e-5)
    assert np.abs(moved_NC - audio_NC).max() > 0.01
    assert not torch.is_inference_mode_enabled()
