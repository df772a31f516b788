import dataclasses
import pickle

import numpy as np
import pytest

from mats_ray import types
from mats_ray.tasks import Task
from mats_ray.types import Answer, AudioClip, CLAPIdentity, Request, Triplet

CLIP = AudioClip(samples=np.zeros(8_000, np.float32), sample_rate=16_000, name="dog.wav")
RECORDS = [
    Triplet(
        id="clotho:1",
        text="a dog barks",
        instruction="Describe.",
        answer="a dog barks",
        task=Task.CAPTION,
        source="clotho",
        split="train",
        license="CC0",
    ),
    CLIP,
    Request(audio=CLIP, task=Task.QA, question="What barks?"),
    Answer(text="a dog", num_tokens=2, finish_reason="stop"),
    CLAPIdentity(family="transformers", checkpoint_hash="0123456789abcdef", dim=512),
]


def test_every_record_is_tested_here():
    assert {type(record) for record in RECORDS} == {
        kind for kind in vars(types).values() if dataclasses.is_dataclass(kind)
    }


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_cannot_be_changed(record):
    field = dataclasses.fields(record)[0].name

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, field, None)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_accepts_keywords_only(record):
    values = [getattr(record, field.name) for field in dataclasses.fields(record)]

    with pytest.raises(TypeError, match="positional"):
        type(record)(*values)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_crosses_processes(record):
    arrived = pickle.loads(pickle.dumps(record))

    assert type(arrived) is type(record)
    assert repr(arrived) == repr(record)


def test_a_clip_has_a_duration():
    assert CLIP.seconds == 0.5


def test_a_request_is_for_a_caption_by_default():
    request = Request(audio=CLIP)

    assert request.task is Task.CAPTION
    assert request.question is None


def test_a_clap_reads_well_in_a_message():
    assert str(RECORDS[-1]) == "transformers CLAP 0123456789abcdef (512-d)"
