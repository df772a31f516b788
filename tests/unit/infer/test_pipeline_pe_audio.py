"""A model on PE-AV, a waveform family: pipeline, job's encoder and labels work as on any other CLAP."""

import numpy as np
import pytest

from mats_ray.caption.decode import clap_cut
from mats_ray.errors import ModelError
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.models.clap import load_clap
from mats_ray.models.directory import read_info
from mats_ray.tasks import Task
from mats_ray.types import AudioClip, Request
from tests.pe_audio import DIM, save_pe_audio
from tests.world import tiny_clap, tiny_model_dir


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model_dir(tmp_path_factory.mktemp("pe_world"), write_clap=save_pe_audio)


def clip(seconds, rate, seed=0):
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)
    return AudioClip(samples=samples, sample_rate=rate, name=f"{seed}.wav")


def test_it_captions_and_answers_alone_as_in_a_batch(model):
    pipeline = MATSPipeline.from_pretrained(model)
    clips = [clip(0.5, 16_000), clip(12, 8_000, seed=1), clip(0.01, 48_000, seed=2)]
    requests = [Request(audio=one) for one in clips]
    requests.append(Request(audio=clips[0], task=Task.QA, question="dog?"))

    together = pipeline(requests)

    assert [answer.text for answer in together] == [pipeline([request])[0].text for request in requests]
    assert all(answer.num_tokens for answer in together)
    assert pipeline.caption(clips[0]).text == together[0].text


def test_the_encoder_of_the_job_and_its_windows_are_those_of_this_clap(model):
    info = read_info(model)
    encoder = AudioEncoder.from_pretrained(model)

    assert info.clap.family == "pe_audio"
    assert encoder.encode([clip(1, 44_100), clip(1, 16_000, seed=1)]).shape == (2, DIM)
    assert clap_cut(info.model.clap)().seconds == encoder.clap.window_seconds == 10
    assert encoder.clap.encode_text(["dog", "rain"]).shape == (2, DIM)


def test_a_model_trained_with_another_family_is_refused(model, tmp_path):
    other = load_clap(tiny_clap(tmp_path))
    assert other.dim == DIM

    with pytest.raises(
        ModelError, match=r"was trained with pe_audio CLAP .*, the one found is transformers CLAP"
    ):
        AudioEncoder(other, expected=read_info(model).clap)
