"""The service on a real Ray Serve, deployed from ``serve/config.yaml``, called over HTTP."""

import base64
import io
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import numpy as np
import openai
import pytest
import soundfile
import yaml
from click.testing import CliRunner
from ray import serve
from ray.serve.schema import ServeDeploySchema
from ray.serve.scripts import cli as serve_cli

from mats_ray.config.serve import ServeConfig
from mats_ray.data.audio import decode_audio
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.serving.on_ray.deployments import ColocatedIngress, build_app
from mats_ray.types import AudioClip
from tests.service import (
    CONFIG,
    HEADERS,
    IN_FLIGHT,
    KEY,
    ROOT,
    TIMEOUT_SECONDS,
    encoded,
    free_port,
    poll,
    sound,
    wait_until_ready,
)

pytestmark = pytest.mark.ray

CAPTIONS, QUESTIONS = "/v1/audio/captions", "/v1/audio/questions"
QUESTION = "Is there a dog?"


@pytest.fixture(scope="module")
def clips():
    """Ten sounds, of several lengths and sample rates, as wav and ogg files."""
    return {f"{n}.{kind}": sound(n, kind) for n in range(5) for kind in ("wav", "ogg")}


@pytest.fixture(scope="module")
def expected(model_dir, clips):
    """Return the pipeline's caption and answer for each clip."""
    pipeline = MATSPipeline.from_pretrained(model_dir)
    decoded = {name: decode_audio(data, name=name) for name, data in clips.items()}
    return {name: (pipeline.caption(clip), pipeline.ask(clip, QUESTION)) for name, clip in decoded.items()}


class Breakable(ColocatedIngress.func_or_class):
    """All parts in one process; its engine can be stopped."""

    async def stop_engine(self):
        def stop():
            raise SystemExit

        self._model.answerer._engine._engine._batch.step = stop


@pytest.fixture(scope="module")
def colocated(server, model_dir, tmp_path_factory):
    """A client of the other layout, as an application of its own beside the one of ``server``."""
    keys = tmp_path_factory.mktemp("colocated") / "keys"
    keys.write_text(KEY)
    config = ServeConfig(
        model=str(model_dir),
        layout="colocated",
        api_keys_file=str(keys),
        max_upload_bytes=600_000,
        max_audio_seconds=20,
        max_requests_in_flight=IN_FLIGHT,
        request_timeout_seconds=TIMEOUT_SECONDS,
    )
    ingress = build_app(config)._bound_deployment.options(func_or_class=Breakable)
    serve.run(ingress.bind(config), name="colocated", route_prefix="/colocated")
    url = f"http://127.0.0.1:{server.base_url.port}/colocated"
    with httpx.Client(base_url=url, headers=HEADERS, timeout=TIMEOUT_SECONDS) as client:
        wait_until_ready(client)
        yield client
    serve.delete("colocated")


@pytest.fixture(params=["disaggregated", "colocated"])
def service(request):
    """A client of each layout in turn."""
    return request.getfixturevalue({"disaggregated": "server"}.get(request.param, request.param))


def test_answers_over_http_are_the_pipelines(service, clips, expected, model_dir):
    for name, data in clips.items():
        caption = service.post(CAPTIONS, files={"file": (name, data)})
        answer = service.post(QUESTIONS, files={"file": (name, data)}, data={"question": QUESTION})
        assert (answer_text(caption), answer_text(answer)) == expected_texts(expected[name])
    assert caption.json()["model"].startswith("tiny")
    assert len({words for pair in expected.values() for words in expected_texts(pair)}) > 5


def test_concurrent_requests_are_answered_as_single_ones(service, clips, expected):
    names = list(clips) * 4

    def ask(name):
        return answer_text(
            service.post(QUESTIONS, files={"file": (name, clips[name])}, data={"question": QUESTION})
        )

    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        answers = list(threads.map(ask, names))

    assert answers == [expected_texts(expected[name])[1] for name in names]


def test_a_bad_file_does_not_disturb_the_requests_beside_it(service, clips, expected):
    uploads = [
        ("0.wav", clips["0.wav"]),
        ("bad.wav", b"no sound at all, just text"),
        ("1.ogg", clips["1.ogg"]),
    ]

    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        replies = list(
            threads.map(lambda upload: service.post(CAPTIONS, files={"file": upload}), uploads * 4)
        )

    assert [reply.status_code for reply in replies] == [200, 415, 200] * 4
    assert {answer_text(reply) for reply in replies[::3]} == {expected_texts(expected["0.wav"])[0]}


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("text.wav", 415, "not_audio"),
        ("cut.ogg", 422, "truncated"),
        ("empty.wav", 422, "empty"),
        ("no_samples.wav", 422, "empty"),
        ("nan.wav", 422, "not_finite"),
        ("long.ogg", 413, "too_long"),
        ("large.wav", 413, "too_large"),
    ],
)
def test_bad_audio_is_one_clear_error(server, name, status, code):
    response = server.post(CAPTIONS, files={"file": (name, bad(name))})

    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert (error["code"], error["type"]) == (code, "invalid_request_error")
    assert "\n" not in error["message"]
    assert code == "too_large" or name in error["message"]


def test_a_request_id_is_echoed_once(server):
    response = server.get("/health", headers={"X-Request-Id": "mine-1"})

    assert response.headers.get_list("x-request-id") == ["mine-1"]
    assert len(server.get("/health").headers.get_list("x-request-id")) == 1


def test_errors_of_the_router_are_json_through_serve_too(server):
    for response in (server.post("/v1/nothing"), server.get(CAPTIONS), server.post(QUESTIONS, json={})):
        assert response.json()["error"]["code"] in {"route_not_found", "method_not_allowed", "not_multipart"}


def test_a_full_server_refuses_and_recovers_when_clients_go_away(service, clips):
    stalled = []

    def send(*, stall):
        if stall:
            stalled.append(stalled_upload(service.base_url))
        return service.post(CAPTIONS, files={"file": clips["0.wav"]})

    refused = poll(lambda: send(stall=True), 429)
    alive = service.get("/health")
    for connection in stalled:
        connection.close()

    assert len(stalled) >= IN_FLIGHT
    assert int(refused.headers["retry-after"]) > 0
    assert refused.json()["error"]["code"] == "overloaded"
    assert alive.status_code == 200
    assert poll(lambda: send(stall=False), 200)


@pytest.mark.parametrize("window", [1, 5])
def test_an_idle_server_answers_all_windows_it_allows_as_the_pipeline_does(server, model_dir, window):
    """Twenty calls in one turn would be more than the queues of this server hold."""
    data = wav_of_noise(20)
    clip = decode_audio(data, name="a.wav")
    size = window * clip.sample_rate
    pipeline = MATSPipeline.from_pretrained(model_dir)
    parts = [clip.samples[start : start + size] for start in range(0, len(clip.samples), size)]
    captions = [
        pipeline.caption(AudioClip(samples=part, sample_rate=clip.sample_rate)).text for part in parts
    ]

    reply = server.post(CAPTIONS, files={"file": ("a.wav", data)}, data={"window": str(window)})

    assert reply.status_code == 200, reply.text
    assert [part["text"] for part in reply.json()["windows"]] == captions


def wav_of_noise(seconds):
    file = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, seconds * 8000)
    soundfile.write(file, noise, 8000, format="wav")
    return file.getvalue()


def test_openais_client_gets_the_pipelines_answer_at_once_and_in_pieces(service, clips, expected):
    client = openai.OpenAI(base_url=f"{service.base_url}v1", api_key=KEY, max_retries=0)
    for name in ("0.wav", "3.ogg"):
        sound = {"data": base64.b64encode(clips[name]).decode(), "format": name[-3:]}
        content = [{"type": "input_audio", "input_audio": sound}, {"type": "text", "text": QUESTION}]
        chat = {"model": "mats", "messages": [{"role": "user", "content": content}]}

        whole = client.chat.completions.create(**chat)
        chunks = list(client.chat.completions.create(**chat, stream=True))

        text, tokens, reason = expected_texts(expected[name])[1]
        assert whole.choices[0].message.content == text
        assert whole.usage.completion_tokens == tokens
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
        assert chunks[-1].choices[0].finish_reason == reason

    # pieces that an event loop finds waiting together are one: an answer has to last longer than that
    assert len(list(client.chat.completions.create(**chat, stream=True, max_tokens=200))) > 3


def test_labels_and_embeddings_are_the_encoders(service, clips, model_dir):
    encoder = MATSPipeline.from_pretrained(model_dir).encoder
    clip = decode_audio(clips["1.wav"], name="1.wav")
    labels = ["dog", "rain falls"]

    embedded = service.post("/v1/audio/embeddings", files={"file": clips["1.wav"]}).json()["data"][0]
    scored = service.post(
        "/v1/audio/classifications", files={"file": clips["1.wav"]}, data={"labels": labels}
    ).json()["labels"]

    own = encoder.encode([clip])[0]
    np.testing.assert_allclose(embedded["embedding"], own, atol=1e-5)
    expected = dict(zip(labels, encoder.clap.encode_text(labels).numpy() @ own, strict=True))
    assert {one["label"]: one["similarity"] for one in scored} == pytest.approx(expected, abs=1e-4)


METRICS = ("ray_mats_requests_total", "ray_mats_answers_running", "ray_mats_batch_size_bucket")


def test_the_service_counts_in_rays_metrics_too(server, ray_cluster):
    poll_until(lambda: all(exporters(ray_cluster)))


def test_one_process_exports_the_metrics_of_colocated_parts(colocated, ray_cluster):
    poll_until(lambda: set.intersection(*exporters(ray_cluster)))


def exporters(cluster):
    """Return for each metric the ids of the processes whose values Ray exports."""
    text = httpx.get(f"http://{cluster['node_ip_address']}:{cluster['metrics_export_port']}/metrics").text
    return [set(re.findall(rf'^{name}{{.*WorkerId="(\w+)"', text, re.MULTILINE)) for name in METRICS]


def poll_until(condition):
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return found


def test_a_colocated_replica_whose_engine_stops_is_replaced(colocated, clips, expected):
    """Last of those that use it: what is in flight at that moment is refused, not repeated."""

    def send():
        return colocated.post(QUESTIONS, files={"file": clips["0.wav"]}, data={"question": QUESTION})

    serve.get_app_handle("colocated").stop_engine.remote().result()

    assert (stopped := send()).status_code == 500
    assert stopped.json()["error"]["code"] == "replica_died"
    while (reply := send()).status_code != 200:
        assert reply.status_code in {500, 502, 503}
    assert answer_text(reply) == expected_texts(expected["0.wav"])[1]


def test_the_shipped_config_is_the_defaults_and_names_every_setting():
    config = ServeDeploySchema.model_validate(yaml.safe_load(CONFIG.read_text()))

    args = config.applications[0].args
    assert ServeConfig.model_validate(args) == ServeConfig()
    assert ServeConfig.model_fields.keys() - args.keys() == {"generation"}


def test_serve_build_accepts_the_app(tmp_path):
    build = ["build", "--app-dir", str(ROOT), "serve.app:app", "-o", str(tmp_path / "built.yaml")]

    result = CliRunner().invoke(serve_cli, build)

    assert result.exit_code == 0, result.output
    built = ServeDeploySchema.model_validate(yaml.safe_load((tmp_path / "built.yaml").read_text()))
    deployments = built.applications[0].deployments
    assert {deployment.name for deployment in deployments} == {"Ingress", "Encoder", "Answerer"}


def test_the_command_answers_until_it_is_interrupted(model_dir, clips, expected):
    port = free_port()
    command = [sys.executable, "-m", "mats_ray", "serve", "--model", str(model_dir), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        output = server.stdout.readline() + server.stdout.readline()
        reply = httpx.post(
            f"http://127.0.0.1:{port}{QUESTIONS}",
            files={"file": clips["0.wav"]},
            data={"question": QUESTION},
            timeout=60,
        )
        server.send_signal(signal.SIGINT)
        _, log = server.communicate(timeout=120)

    assert (
        f'curl -F file=@clip.wav -F question="Is there a dog?" http://127.0.0.1:{port}{QUESTIONS}' in output
    )
    assert answer_text(reply) == expected_texts(expected["0.wav"])[1]
    assert server.returncode == 0
    assert "Traceback" not in log


def bad(name):
    """Make one kind of audio that cannot be used."""
    ogg = sound(1, "ogg")
    return {
        "text.wav": b"This is not a sound.\n" * 50,
        "cut.ogg": ogg[: len(ogg) // 2],
        "empty.wav": b"",
        "no_samples.wav": encoded(np.zeros(0), 8_000, "wav"),
        "nan.wav": encoded(np.full(8_000, np.nan), 8_000, "wav"),
        "long.ogg": encoded(np.zeros(21 * 8_000), 8_000, "ogg"),
        "large.wav": encoded(np.zeros(200_000), 48_000, "wav"),
    }[name]


def answer_text(response):
    assert response.status_code == 200, response.text
    body = response.json()
    return body["text"], body["usage"]["completion_tokens"], body["finish_reason"]


def expected_texts(answers):
    return tuple((answer.text, answer.num_tokens, answer.finish_reason) for answer in answers)


def stalled_upload(url):
    """Open a connection that announces a body and never sends it."""
    connection = socket.create_connection(("127.0.0.1", url.port))
    head = f"POST {url.path.rstrip('/')}{CAPTIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    head += f"Authorization: {HEADERS['Authorization']}\r\n"
    connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode())
    return connection
