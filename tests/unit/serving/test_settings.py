import pytest

from mats_ray.config.serve import ServeConfig
from mats_ray.errors import ConfigError
from mats_ray.serving.settings import load_serve_config


@pytest.fixture
def run_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("output_dir: out/mine\ntoy: {}\nserve: {threads: 2}\n")
    return str(path)


def test_without_anything_it_is_the_defaults():
    assert load_serve_config([]) == ServeConfig()


def test_overrides_work_without_a_file():
    config = load_serve_config([], ["serve.max_audio_seconds=9", "serve.encoder.max_batch_size=2"])

    assert (config.max_audio_seconds, config.encoder.max_batch_size) == (9, 2)


def test_a_runs_model_is_where_the_run_writes_it(run_file):
    config = load_serve_config([run_file])

    assert (config.model, config.threads) == ("out/mine/model", 2)


def test_a_named_model_goes_before_the_runs(run_file):
    assert load_serve_config([run_file], ["serve.model=a"]).model == "a"
    assert load_serve_config([run_file], ["serve.model=a"], model="b").model == "b"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("serve.max_audio_second=9", "unknown key serve.max_audio_second"),
        ("serve.threads=0", "serve.threads = 0 is not allowed"),
        ("train.num_steps=3", "unknown key train"),
        ("serve.encoder.autoscaling.min_replicas=5", "min_replicas=5 is more than max_replicas=2"),
    ],
)
def test_a_bad_setting_is_one_line(override, said):
    with pytest.raises(ConfigError) as caught:
        load_serve_config([], [override])

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
