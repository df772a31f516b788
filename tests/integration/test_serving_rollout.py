"""The service while its replicas die and are replaced: no client notices."""

import base64
import io
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import soundfile
from ray import serve

from mats_ray.data.audio import decode_audio
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.serving.on_ray.deployments import APP_NAME
from tests.service import TIMEOUT_SECONDS
from tests.world import tiny_model_dir

pytestmark = pytest.mark.ray

QUESTION = "Is there a dog?"
CLIENTS = 2


@pytest.fixture(scope="module")
def clip():
    noise = 0.1 * np.random.default_rng(0).normal(size=16_000)
    file = io.BytesIO()
    soundfile.write(file, noise.astype(np.float32), 16_000, format="wav")
    return file.getvalue()


@pytest.mark.slow
def test_killed_replicas_fail_no_request(server, clip, model_dir):
    with requests_under_way(server, clip) as replies:
        for deployment in ("Answerer", "Encoder"):
            wait_for_more(replies)
            victim = replicas(deployment)[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: set(replicas(deployment)) - {victim} and running(deployment))  # noqa: B023
        wait_for_more(replies)

    assert set(replies) == {pipelines_answer(model_dir, clip)}


def test_a_model_with_another_clap_rolls_out_without_a_failed_or_mixed_answer(
    server, clip, model_dir, tmp_path
):
    other = tiny_model_dir(tmp_path / "other", name="other", seed=1)
    old, new = pipelines_answer(model_dir, clip), pipelines_answer(other, clip)

    with requests_under_way(server, clip) as replies:
        wait_for_more(replies)
        server.deploy(model=str(other))
        wait_until(lambda: replies[-2 * CLIENTS :] == [new] * 2 * CLIENTS)
        wait_until(lambda: all(running(name) for name in ("Ingress", "Encoder", "Answerer")))

    assert old != new
    assert set(replies) == {old, new}
    assert server.get("/v1/models").json()["data"][0]["id"] == new[0]


@contextmanager
def requests_under_way(server, clip):
    """Send from several threads until the block ends, every other time for a stream; yields the answers."""
    replies, done, until = [], threading.Event(), time.monotonic() + 2 * TIMEOUT_SECONDS

    def keep_sending():
        number = 0
        while not done.is_set() and time.monotonic() < until:
            number += 1
            replies.append(answer_text(server, clip, stream=number % 2 == 0))

    with ThreadPoolExecutor(CLIENTS) as threads:
        senders = [threads.submit(keep_sending) for _ in range(CLIENTS)]
        try:
            yield replies
        finally:
            done.set()
    for sender in senders:
        sender.result()


def answer_text(server, clip, *, stream):
    """Return the model's name and its answer, or the status and the body of a failure."""
    sound = {"data": base64.b64encode(clip).decode(), "format": "wav"}
    content = [{"type": "input_audio", "input_audio": sound}, {"type": "text", "text": QUESTION}]
    body = {"messages": [{"role": "user", "content": content}], "stream": stream}
    reply = server.post("/v1/chat/completions", json=body)
    if reply.status_code != 200 or (stream and not reply.text.endswith("[DONE]\n\n")):
        return reply.status_code, reply.text
    if not stream:
        return reply.json()["model"], reply.json()["choices"][0]["message"]["content"]
    chunks = [json.loads(line.removeprefix("data: ")) for line in reply.text.split("\n\n")[:-2]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    return chunks[-1]["model"], text


def pipelines_answer(model_dir, clip):
    pipeline = MATSPipeline.from_pretrained(model_dir)
    return pipeline.model_id, pipeline.ask(decode_audio(clip, name="clip"), QUESTION).text


def replicas(deployment):
    """Process ids of a deployment's replicas on this machine, of this test's cluster only."""
    title = f"ray::ServeReplica:{APP_NAME}:{deployment}"
    family = psutil.Process().children(recursive=True)
    return [process.pid for process in family if process.is_running() and title in " ".join(cmdline(process))]


def cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def running(deployment):
    states = serve.status().applications[APP_NAME].deployments[deployment].replica_states
    return states == {"RUNNING": 1}


def wait_for_more(replies):
    wanted = len(replies) + 2 * CLIENTS
    wait_until(lambda: len(replies) > wanted)


def wait_until(condition):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
