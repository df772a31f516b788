"""Classification and embedding; the other routes are in test_app.py."""

import base64

import numpy as np
import pytest

from mats_ray.tasks import several_clips
from tests.unit.serving.http.test_app import CAPTIONS, CLIP, QUESTIONS, error_of

CLASSIFICATIONS, EMBEDDINGS = "/v1/audio/classifications", "/v1/audio/embeddings"


@pytest.mark.parametrize("labels", [["cat", "dog"], "cat, dog"], ids=["repeated", "commas"])
def test_labels_are_scored(client, labels):
    body = client.post(CLASSIFICATIONS, files=CLIP, data={"labels": labels}).json()

    assert [one["label"] for one in body["labels"]] == ["dog", "cat"]
    assert sum(one["score"] for one in body["labels"]) == pytest.approx(1)
    assert (body["model"], body["audio_seconds"]) == ("toy-0123", 2.0)


def test_bad_labels_are_named(client):
    error_of(client.post(CLASSIFICATIONS, files=CLIP), 422, "missing_field", param="labels")
    twice = client.post(CLASSIFICATIONS, files=CLIP, data={"labels": ["a", "a"]})
    error_of(twice, 422, "invalid_field", param="labels")


def test_a_sound_is_embedded_whole_or_in_windows(client):
    whole = client.post(EMBEDDINGS, files=CLIP).json()
    parts = client.post(EMBEDDINGS, files=CLIP, data={"window": "1.5"}).json()

    assert [one["embedding"] for one in whole["data"]] == [[2.0]]
    assert [(one["start"], one["end"], one["embedding"]) for one in parts["data"]] == [
        (0, 1.5, [1.5]),
        (1.5, 2.0, [0.5]),
    ]


def test_an_embedding_can_be_base64(client):
    body = client.post(EMBEDDINGS, files=CLIP, data={"encoding_format": "base64"}).json()

    assert np.frombuffer(base64.b64decode(body["data"][0]["embedding"]), "<f4").tolist() == [2.0]


def test_captions_and_questions_accept_windows_and_a_profile(client, answerer):
    form = {"question": "?", "window": "1", "profile": "fast"}
    body = client.post(QUESTIONS, files=CLIP, data=form).json()

    assert [part["end"] for part in body["windows"]] == [1.0, 2.0]
    assert answerer.options[-1].profile == "fast"
    error_of(client.post(CAPTIONS, files=CLIP, data={"window": "0"}), 422, "invalid_field", param="window")
    error_of(client.post(CAPTIONS, files=CLIP, data={"window": "nan"}), 422, "invalid_field", param="window")


@pytest.mark.parametrize("route", [CAPTIONS, QUESTIONS, CLASSIFICATIONS, EMBEDDINGS])
def test_one_clip_is_the_rule_of_every_form(client, route):
    data = {QUESTIONS: {"question": "Is there a dog?"}, CLASSIFICATIONS: {"labels": "a, b"}}.get(route, {})

    two = client.post(route, files=[("file", CLIP["file"])] * 2, data=data)

    assert error_of(two, 422, "clip_count", param="file")["message"] == several_clips(2)
