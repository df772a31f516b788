"""A language model of any precision end to end: trained in bf16, stored, loaded, answering everywhere."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from mats_ray.caption.on_ray import caption
from mats_ray.config.serve import ServeConfig
from mats_ray.data.audio import read_audio
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.models.directory import read_info
from mats_ray.serving.http.app import make_app
from mats_ray.serving.local import LocalAnswerer, LocalEncoder
from mats_ray.serving.service import AudioService
from mats_ray.toy.demo.testset import write_test_set
from mats_ray.train.on_ray import train
from tests.runs import losses, other_run

pytestmark = pytest.mark.ray


class OneFile:
    """Replaces the decoding processes, which do not depend on precision."""

    def __init__(self, path):
        self.clip = read_audio(path)

    async def decode(self, data, *, name):
        return self.clip

    def close(self):
        pass


@pytest.fixture(
    scope="module",
    params=[
        "bfloat16",
        pytest.param("float32", marks=pytest.mark.slow),
        pytest.param("float16", marks=pytest.mark.slow),
    ],
)
def trained(request, world):
    """Two steps of ZeRO-2 in bf16, and an answer to held-out questions before the run ends."""
    config = other_run(
        world,
        f"half-{request.param}",
        train={
            "num_steps": 2,
            "engine": {"zero_stage": 2, "precision": "bf16"},
            "schedule": {"warmup_steps": 0},
        },
        scaling={"num_workers": 1},
    ).replace(model={"llm": {"dtype": request.param}})
    return request.param, config, train(config)


def test_a_run_of_any_precision_leaves_a_model_that_answers_everywhere(trained, tmp_path):
    dtype, config, result = trained
    clip = write_test_set(config, tmp_path / "clips")[0].path

    pipeline = MATSPipeline.from_pretrained(result.model)
    alone = pipeline.caption(read_audio(clip))
    rows = str(tmp_path / "rows")
    caption(config.caption, config.generation, audio=str(clip), out=rows, model=result.model)
    served = answered_over_http(result.model, clip)

    assert sorted(losses(result.metrics)) == [1, 2]
    assert read_info(result.model).model.llm.dtype == dtype
    model = Answerer.from_pretrained(result.model).model
    assert str(model.llm.get_input_embeddings().weight.dtype) == f"torch.{dtype}"
    assert {str(p.dtype) for p in model.connector.parameters()} == {"torch.float32"}
    (row,) = pq.read_table(tmp_path / "rows").to_pylist()
    assert (row["status"], row["error_code"]) == ("ok", None)
    if dtype == "float32":  # where alone, in a job and step by step are the same to the token
        assert row["caption"] == served["text"] == alone.text
    assert max(alone.num_tokens, row["num_tokens"]) <= config.generation.max_new_tokens


def answered_over_http(model, path):
    """The service's app on its own replicas, without Serve between them."""
    config = ServeConfig(model=str(model))
    encoder, answerer = LocalEncoder(config), LocalAnswerer(config)
    app = make_app(AudioService(encoder, answerer, decoder=OneFile(path)), config)
    with TestClient(app) as client:
        reply = client.post("/v1/audio/captions", files={"file": ("a.wav", Path(path).read_bytes())})
    assert reply.status_code == 200, reply.text
    return reply.json()
