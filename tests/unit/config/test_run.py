"""Loading a run's configuration: precedence, refused values, derived paths."""

from pathlib import Path

import pytest
import yaml

from mats_ray.config import RunConfig, load_config
from mats_ray.config.run import join
from mats_ray.errors import ConfigError

SHIPPED = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text("toy: {}\n")
    return path


def test_later_wins_default_file_second_file_override(toy, tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("train: {num_steps: 10, log_every: 2, optim: {lr: 1.0e-3}}")
    second.write_text("train: {num_steps: 20, optim: {weight_decay: 0}}")

    train = load_config([toy, first, second], ["train.log_every=3", "train.log_every=4"]).train

    assert train.global_batch_size == RunConfig.model_fields["train"].default.global_batch_size
    assert train.optim.lr == 1e-3
    assert (train.num_steps, train.optim.weight_decay) == (20, 0)
    assert train.log_every == 4


def test_one_file_needs_no_list(toy):
    assert load_config(toy) == load_config([toy]) == load_config(str(toy))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            "training.num_steps=3",
            "unknown key training = {'num_steps': 3}; allowed here: caption, data, deploy, generation",
        ),
        ("train=3", "train = 3 is not allowed: input should be a valid dictionary"),
        ("train.num_steps.x=3", "train.num_steps = {'x': 3} is not allowed: input should be a valid integer"),
        ("seed=-1", "seed = -1 is not allowed: input should be greater than or equal to 0"),
        ("seed=2147483648", "seed = 2147483648 is not allowed: input should be less than 2147483648"),
        ("name=a b", "name = 'a b' is not allowed: string should match pattern"),
        ("name=../up", "name = '../up' is not allowed: string should match pattern"),
        ("output_dir=''", "output_dir = '' is not allowed: string should have at least 1 character"),
        ("toy=null", "model.clap.ref must name a checkpoint (only a config with a toy section may not)"),
        ("toy.llm_dims=3", "unknown key toy.llm_dims = 3; allowed here: clap_batch_size, clap_steps"),
        (
            "scaling.num_workers=5",
            "train.global_batch_size=96 is not a multiple of train.micro_batch_size x workers = 12 x 5 = 60",
        ),
    ],
)
def test_a_fault_names_file_override_key_value_and_what_is_allowed(toy, change, expected):
    with pytest.raises(ConfigError) as caught:
        load_config(toy, [change])

    message = str(caught.value)
    assert message.startswith(f"{toy}, --set {change}: {expected}")
    assert "\n" not in message


def test_plain_torch_runs_one_worker(toy):
    with pytest.raises(
        ConfigError, match=r"'torch' runs one worker, scaling\.num_workers is 2; use 'deepspeed'"
    ):
        load_config(toy, ["train.engine.type=torch", "scaling.num_workers=2"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("engine", ["torch, fp32", "deepspeed, fp32", "deepspeed, bf16"])
def test_a_half_precision_language_model_needs_a_bf16_engine(toy, dtype, engine):
    kind, precision = engine.split(", ")
    changes = [f"model.llm.dtype={dtype}", f"train.engine={{type: {kind}, precision: {precision}}}"]

    if dtype == "float32" or precision == "bf16":
        assert load_config(toy, changes).model.llm.dtype == dtype
        return
    with pytest.raises(ConfigError) as caught:
        load_config(toy, changes)
    assert str(caught.value).endswith(
        f"model.llm.dtype={dtype} needs train.engine.precision: bf16 (and engine type deepspeed), "
        "it is fp32; or use model.llm.dtype: float32"
    )


def test_the_batch_splits_over_every_number_of_workers_a_run_may_have(toy):
    change = ["train.global_batch_size=12", "train.micro_batch_size=2"]

    assert load_config(toy, [*change, "scaling.num_workers=[1, 3]"]).scaling.max_workers == 3
    with pytest.raises(ConfigError, match=r"micro_batch_size x workers = 2 x 4 = 8"):
        load_config(toy, [*change, "scaling.num_workers=[1, 6]"])


def test_without_a_toy_world_both_checkpoints_are_named():
    clap = {"model": {"clap": {"ref": "clap.pt"}}}

    with pytest.raises(ValueError, match=r"model\.clap\.ref must name a checkpoint"):
        RunConfig()
    with pytest.raises(ValueError, match=r"model\.llm\.path must name a checkpoint"):
        RunConfig.model_validate(clap)
    config = RunConfig.model_validate({"model": {"clap": {"ref": "clap.pt"}, "llm": {"path": "llama"}}})
    assert (config.clap_ref, config.llm_path) == ("clap.pt", "llama")


def test_no_file_at_all_is_refused():
    with pytest.raises(ConfigError, match="no configuration file given"):
        load_config([])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_survives_writing_and_reading(path, tmp_path):
    config = load_config(path)
    (tmp_path / "resolved.yaml").write_text(config.to_yaml())

    assert load_config(tmp_path / "resolved.yaml") == config
    assert yaml.safe_load(config.to_yaml())["train"]["num_steps"] == config.train.num_steps


def test_a_copy_with_changes_is_checked_again(toy):
    config = load_config(toy)

    changed = config.replace(train={"optim": {"lr": 1.0}}, name="other")

    assert (changed.train.optim.lr, changed.train.num_steps, changed.name) == (1.0, 1000, "other")
    assert config.train.optim.lr == 3e-5
    with pytest.raises(ConfigError, match=r"^replace\(\): unknown key train\.steps = 3; allowed here: "):
        config.replace(train={"steps": 3})
    with pytest.raises(ConfigError, match=r"12 x 7 = 84"):
        config.replace(scaling={"num_workers": 7})


@pytest.mark.parametrize("folder", ["out/demo", "out/demo/", "s3://bucket/run", "s3://bucket/run/"])
def test_every_path_lies_below_the_output_folder(toy, folder):
    config = load_config(toy, [f"output_dir={folder}"])
    base = folder.rstrip("/")

    assert (config.toy_dir, config.clap_ref, config.llm_path) == (
        f"{base}/toy",
        f"{base}/toy/clap",
        f"{base}/toy/llm",
    )
    assert (config.triplets_path, config.embedded_path) == (f"{base}/toy/triplets", f"{base}/embedded")
    assert config.memory_path == f"{base}/santa_memory.safetensors"
    assert (config.model_dir, config.runs_dir) == (f"{base}/model", f"{base}/runs")


def test_prepared_triplets_lie_apart_from_the_toys(toy):
    prepared = load_config(toy).replace(data={"prepare": {"sources": [{"source": "clotho", "path": "x"}]}})

    assert prepared.triplets_path == f"{prepared.output_dir}/triplets"
    named = {"clap": {"ref": "c"}, "llm": {"path": "l"}}
    assert RunConfig.model_validate({"model": named}).triplets_path == "out/triplets"


def test_a_path_that_is_named_stays_as_named(toy):
    paths = [
        "data.triplets=t",
        "data.embedded=s3://b/e",
        "memory.path=m",
        "model.clap.ref=c",
        "model.llm.path=l",
    ]
    config = load_config(toy, paths)

    assert (config.triplets_path, config.embedded_path, config.memory_path) == ("t", "s3://b/e", "m")
    assert (config.clap_ref, config.llm_path) == ("c", "l")


def test_folders_are_joined_with_one_slash():
    assert join("a", "b") == join("a/", "b") == "a/b"
    assert join("/", "b") == "/b"
