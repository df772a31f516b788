"""The other side of the comparison: the same ingress, with plain ``@serve.batch`` around the same model.

Batches are cut by time and computed whole: an answer waits for the longest of its batch.
"""

import argparse
import os
from dataclasses import replace

from mats_ray.serving.foreground import put_haproxy_in_front, wait_for_signal

put_haproxy_in_front(os.environ)  # as on the other side

import numpy as np
import ray
from ray import serve
from ray.serve.config import HTTPOptions

from mats_ray.infer.answerer import Answerer
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.models.directory import read_info
from mats_ray.serving.foreground import load_serve_config
from mats_ray.serving.on_ray.deployments import Ingress
from mats_ray.serving.types import AnswerResult, Embedding, ModelCard


@serve.deployment(name="Encoder", max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
class PlainEncoder:
    def __init__(self, config):
        import torch

        torch.set_num_threads(config.threads)
        self._encoder = AudioEncoder.from_pretrained(config.model)

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.01)
    async def encode(self, clips):
        return [Embedding(vector) for vector in self._encoder.encode(clips)]


@serve.deployment(name="Answerer", max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
class PlainAnswerer:
    def __init__(self, config):
        import torch

        torch.set_num_threads(config.threads)
        info = read_info(config.model)
        self._card = ModelCard(id=info.model_id, created=0)
        own = Answerer.from_info(info)
        self._answerer = replace(own, generation=config.generation or own.generation)

    async def describe(self):
        return self._card

    async def answer(self, embedding, instruction, options):
        return await self._answer((embedding.vectors, instruction))

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.01)
    async def _answer(self, batch):
        embeddings, instructions = zip(*batch, strict=True)
        answers = self._answerer.answer(np.stack(embeddings), instructions)
        return [AnswerResult(answer=answer, model=self._card, prompt_tokens=1) for answer in answers]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--port", type=int)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    config = load_serve_config([], args.settings, model=args.model)
    ray.init(address="local", num_cpus=4, log_to_driver=False)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=args.port))
    ingress = Ingress.options(max_ongoing_requests=200, ray_actor_options={"num_cpus": 0.25})
    serve.run(ingress.bind(PlainEncoder.bind(config), PlainAnswerer.bind(config), config), name="mats")
    wait_for_signal()
    ray.shutdown()


if __name__ == "__main__":
    main()
