"""How what Ray says reaches a client, and what the deployments are configured to; no cluster."""

import asyncio
import subprocess
import sys

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from mats_ray.config.infer import AutoscalingConfig, DeploymentConfig, ServeConfig
from mats_ray.errors import AudioError
from mats_ray.serving.on_ray import RemoteAnswerer, RemoteEncoder, build_app
from mats_ray.serving.problems import RequestError
from mats_ray.types import Answer


class Handle:
    """A deployment handle all of whose methods end alike."""

    def __init__(self, ending):
        self.encode = self.answer = self.describe = Method(ending)


class Method:
    def __init__(self, ending):
        self._ending = ending
        self.cancelled = False

    def remote(self, *args):
        return self

    def cancel(self):
        self.cancelled = True

    def __await__(self):
        if isinstance(self._ending, BaseException):
            raise self._ending
        return self._ending
        yield


def encode(ending):
    return asyncio.run(RemoteEncoder(Handle(ending)).encode(None))


def test_a_result_comes_through():
    answer = Answer(text="a dog", num_tokens=2, finish_reason="stop")

    assert asyncio.run(RemoteAnswerer(Handle(answer)).answer(np.zeros(2), "?")) is answer


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BackPressureError(5, 5), "overloaded"),
        (ActorDiedError(), "unavailable"),
        (DeploymentUnavailableError("Encoder"), "unavailable"),
    ],
    ids=["full queue", "dead replica", "failed deployment"],
)
def test_what_ray_says_becomes_what_a_client_may_read(error, code):
    with pytest.raises(RequestError) as caught:
        encode(error)

    assert caught.value.code == code


def test_an_error_of_ours_arrives_as_itself():
    with pytest.raises(AudioError) as caught:
        encode(task_error(AudioError("a.wav: odd", code="empty")))

    assert type(caught.value) is AudioError
    assert str(caught.value) == "a.wav: odd"


def test_an_error_nobody_foresaw_keeps_its_remote_traceback_for_the_log():
    with pytest.raises(RayTaskError, match="line 7"):
        encode(task_error(ValueError("odd")))


def test_a_request_given_up_is_cancelled_in_the_replica():
    handle = Handle(asyncio.CancelledError())

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(RemoteAnswerer(handle).describe())

    assert handle.describe.cancelled


def test_replicas_hold_several_batches_and_scale_as_configured():
    scaling = AutoscalingConfig(min_replicas=0, max_replicas=7, target_ongoing_requests=3)
    config = ServeConfig(encoder=DeploymentConfig(max_batch_size=10, gpus=0.5, autoscaling=scaling))

    encoder = parts(build_app(config))["Encoder"]

    assert encoder.max_ongoing_requests >= 40
    assert encoder._deployment_config.autoscaling_config.max_replicas == 7
    assert encoder.ray_actor_options == {"num_cpus": 0.5, "num_gpus": 0.5}


def test_the_model_is_found_from_any_working_directory(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)

    assert parts(build_app(ServeConfig(model="model")))["Encoder"].init_args[0].model == str(
        tmp_path / "model"
    )
    assert parts(build_app(ServeConfig(model="s3ish/m")))["Encoder"].init_args[0].model == "s3ish/m"


def test_the_ingress_imports_no_torch():
    code = "import sys, mats_ray.serving.on_ray; print('torch' in sys.modules)"

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert out.strip() == "False"


def task_error(cause):
    return RayTaskError("encode", "Traceback, line 7", cause).as_instanceof_cause()


def parts(app):
    """Deployments of an application by name."""
    ingress = app._bound_deployment
    bound = [ingress, *(arg._bound_deployment for arg in ingress.init_args[:2])]
    return {deployment.name: deployment for deployment in bound}
