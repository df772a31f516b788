"""The systems the demo compares: each gets the same questions, and the embeddings of its name."""

import numpy as np
import pytest
import torch

from mats_ray.data.audio import read_audio
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.toy.demo import systems
from mats_ray.toy.demo.testset import CAPTION, KIND, samples_of, write_test_set
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


def test_each_sample_is_answered_about_its_own_clip(clips, model_dir, audio_NC, monkeypatch):
    """In batches that split captions from questions and a clip's questions from each other."""
    monkeypatch.setattr(systems, "BATCH_SIZE", 4)
    answerer, samples = Answerer.from_pretrained(model_dir), samples_of(clips)
    row_of = {clip.path.name: row for row, clip in enumerate(clips)}
    alone = [
        answerer.answer(audio_NC[row_of[one.audio[0]]][None], [one.question], moved=True)[0].text
        for one in samples
    ]

    assert systems.answer_samples(answerer, audio_NC, clips, samples) == alone


def test_the_baseline_gives_the_most_frequent_training_answer(world, clips):
    samples, training = samples_of(clips), text_triplets(world, split_of(world))

    answers = systems.majority_answers(samples, training)

    of_captions = {
        text for text, one in zip(answers, samples, strict=True) if one.categories[KIND] == CAPTION
    }
    of_questions = {
        text for text, one in zip(answers, samples, strict=True) if one.categories[KIND] != CAPTION
    }
    assert len(of_captions) == 1
    assert of_questions in ({"yes"}, {"no"})  # equally frequent and by far the most


def test_santa_moves_audio_by_the_models_own_settings(model_dir, audio_NC):
    moved_NC = systems.apply_santa(model_dir, audio_NC)

    np.testing.assert_allclose(moved_NC, Answerer.from_pretrained(model_dir).move(audio_NC), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(moved_NC, axis=1), 1, atol=1e-5)
    assert np.abs(moved_NC - audio_NC).max() > 0.01
    assert not torch.is_inference_mode_enabled()
