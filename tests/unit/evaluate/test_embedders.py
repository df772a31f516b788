"""Labels can be matched by CLAP, by a sentence encoder, or by an endpoint; each is named in the result."""

import zipfile

import numpy as np
import pytest
from all_minilm_l6_v2 import get_model_zip_path

from mats_ray.config.model import CLAPConfig
from mats_ray.errors import ConfigError
from mats_ray.evaluate.benchmark import Record, Resources, Sample
from mats_ray.evaluate.embedders import EndpointError, load_embedder
from mats_ray.evaluate.metrics.labels import label_accuracy
from mats_ray.models.clap import load_clap
from tests.openai_server import embeddings, openai_server
from tests.world import CLAP_DIM, tiny_clap


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders") / "all-MiniLM-L6-v2"
    zipfile.ZipFile(get_model_zip_path()).extractall(folder)
    return str(next(folder.rglob("modules.json")).parent)


def test_clap_embeds_texts_as_its_own_tower_does(tmp_path):
    folder = tiny_clap(tmp_path / "clap")
    texts = ["a dog barks", "rain falls"]

    embedder = load_embedder("clap", clap=CLAPConfig(ref=str(folder), dim=CLAP_DIM))

    np.testing.assert_allclose(embedder.encode(texts), load_clap(folder).encode_text(texts), atol=1e-6)
    assert embedder.name.startswith("CLAP text tower, ")


def test_clap_without_a_model_is_refused_with_the_remedy():
    with pytest.raises(ConfigError, match=r"no model is known; give --embedder FOLDER"):
        load_embedder("clap", clap=None)


def test_a_real_sentence_encoder_matches_paraphrases_to_their_labels(minilm):
    labels = ["dog", "rain", "chainsaw", "crying_baby"]
    answers = [
        "A puppy is barking",
        "water drops fall from the clouds",
        "a motor saw cuts wood",
        "an infant weeps",
    ]
    records = [
        Record(sample=Sample(id=label, audio=(label,), references=(label,)), answer=answer)
        for label, answer in zip(labels, answers, strict=True)
    ]
    embedder = load_embedder(minilm, clap=None)

    scores = label_accuracy(records, Resources(embedder=lambda: embedder))

    assert scores.predictions == labels
    assert scores.details["embedder"] == f"sentence encoder {minilm.rpartition('/')[2]}"


def test_a_folder_that_is_no_sentence_encoder_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match="is no sentence-transformers model"):
        load_embedder(str(tmp_path), clap=None)


def test_an_endpoint_embeds_in_batches_and_its_vectors_get_length_one():
    def reply(body):
        return embeddings([[3.0, 4.0 + len(text)] for text in body["input"]])

    with openai_server(reply) as server:
        embedder = load_embedder(f"small@{server.url}", clap=None)
        rows_NC = embedder.encode([str(n) for n in range(300)])

    assert [len(one["input"]) for one in server.requests] == [256, 44]
    assert {one["model"] for one in server.requests} == {"small"}
    assert rows_NC.shape == (300, 2)
    np.testing.assert_allclose(np.linalg.norm(rows_NC, axis=1), 1, rtol=1e-6)


def test_an_endpoint_that_refuses_is_one_clear_error():
    with (
        openai_server(lambda body: 401) as server,
        pytest.raises(EndpointError, match=r"embedder small at http.*401"),
    ):
        load_embedder(f"small@{server.url}", clap=None).encode(["a"])
