"""A variant is a model directory that shares the trained parts of another."""

import numpy as np
import pytest
import torch

from mats_ray.config.evaluate import VariantConfig
from mats_ray.errors import ConfigError
from mats_ray.evaluate.variants import variant_model
from mats_ray.infer.answerer import Answerer
from mats_ray.models.directory import read_info
from mats_ray.models.santa import SantaMemory
from tests.sounds import sndfile_bytes
from tests.unit.data.test_embedded import WORDS, write
from tests.world import SAMPLE_RATE


@pytest.fixture(scope="module")
def info(model_dir):
    return read_info(model_dir)


def variant(info, folder, training=(), **changes):
    one = VariantConfig.model_validate({"name": "v", **changes})
    return variant_model(one, info, training=training, folder=str(folder))


def test_a_variant_that_changes_nothing_is_the_model_itself(info, tmp_path):
    assert variant(info, tmp_path) is info


def test_numbers_of_santa_are_its_own_and_weights_are_shared(info, tmp_path):
    found = variant(info, tmp_path, santa={"temperature": 1.0, "mix": 0.5})

    assert (found.santa.temperature, found.santa.mix) == (1.0, 0.5)
    assert found.santa.num_neighbours == info.santa.num_neighbours
    assert found.model_id != info.model_id
    assert found.space == info.space
    assert (found.directory / "mapper.safetensors").resolve() == (
        info.directory / "mapper.safetensors"
    ).resolve()


def test_without_santa_an_embedding_stays_where_it_is(info, tmp_path):
    answerer = Answerer.from_info(variant(info, tmp_path, santa=False))

    assert answerer.bridge.name == "none"
    assert not (tmp_path / "model" / "santa_memory.safetensors").exists()


def test_a_memory_is_built_of_the_texts_of_the_training_run(info, tmp_path):
    (tmp_path / "run" / "embedded").mkdir(parents=True)
    write(tmp_path / "run" / "embedded" / "part-00000.parquet", WORDS)
    (tmp_path / "run.yaml").write_text(
        f"toy: {{}}\noutput_dir: {tmp_path}/run\nmemory: {{num_rows: 20, num_clusters: 3}}\n"
    )

    found = variant(
        info, tmp_path, [str(tmp_path / "run.yaml")], memory={"num_clusters": 1, "noise_variance": 0.0}
    )

    memory = SantaMemory.load(found.directory / "santa_memory.safetensors")
    assert memory.embeddings_NC.shape[0] == 20
    assert len(memory.centroids_KC) == 1
    assert memory.provenance["noise_variance"] == "0.0"


def test_no_bridge_may_be_named_as_one(info, tmp_path):
    found = variant(info, tmp_path, bridge="none")

    assert (found.bridge, found.model.bridge) == ("none", "none")
    assert Answerer.from_info(found).bridge.name == "none"


def test_a_projection_takes_the_texts_of_the_models_santa(info, tmp_path):
    found = variant(info, tmp_path, bridge="projection", projection={"temperature": 0.5})

    bridge = Answerer.from_info(found).bridge
    texts = SantaMemory.load(info.directory / "santa_memory.safetensors").embeddings_NC
    assert torch.equal(bridge.support_NC, texts)
    assert bridge.numbers.temperature == 0.5
    assert found.model_id != info.model_id
    assert found.space == info.space


@pytest.fixture
def training(tmp_path, info):
    """A training run's configuration: texts, and four clips with texts."""
    (tmp_path / "run" / "embedded").mkdir(parents=True)
    write(tmp_path / "run" / "embedded" / "part-00000.parquet", WORDS, identity=info.clap)
    for number in range(4):
        samples = 0.3 * np.sin(np.arange(8000) * (0.05 + 0.11 * number)).astype(np.float32)
        (tmp_path / f"{number}.wav").write_bytes(sndfile_bytes(samples, SAMPLE_RATE))
    (tmp_path / "pairs.csv").write_text("path,text\n0.wav,a dog\n1.wav,rain falls\n2.wav,a bell rings\n")
    (tmp_path / "run.yaml").write_text(
        f"toy: {{}}\noutput_dir: {tmp_path}/run\nmemory: {{num_rows: 20, num_clusters: 3}}\n"
        f"model: {{clap: {{ref: {info.model.clap.ref}, dim: {info.model.clap.dim}}}}}\n"
    )
    return [str(tmp_path / "run.yaml")]


@pytest.mark.parametrize(
    ("bridge", "memory"),
    [
        ("mean_shift", {"audio": "{}"}),
        ("spectral", {"pairs": "{}/pairs.csv"}),
        ("projection", {}),
        ("projection", None),
    ],
)
def test_a_bridge_is_built_of_what_it_needs(info, tmp_path, training, bridge, memory):
    changes = (
        {"memory": {key: value.format(tmp_path) for key, value in memory.items()}}
        if memory is not None
        else {}
    )

    found = variant(info, tmp_path / "v", training, bridge=bridge, **changes)

    assert Answerer.from_info(found).bridge.name == bridge
    other = {
        "santa_memory.safetensors",
        "text_support.safetensors",
        "mean_shift.safetensors",
        "spectral.safetensors",
    }
    assert len(other & {file.name for file in found.directory.iterdir()}) == 1
    if bridge == "projection":
        assert (
            SantaMemory.load(found.directory / "text_support.safetensors").provenance["noise_variance"]
            == "0.0"
        )


def test_a_bridge_without_what_it_needs_is_refused(info, tmp_path, training):
    with pytest.raises(
        ConfigError,
        match=r"variant 'v' wants the bridge 'spectral' of a model without a memory: .* has no spectral",
    ):
        variant(info, tmp_path / "v", bridge="spectral")
    with pytest.raises(ConfigError, match=r"the bridge 'spectral' needs .*: set memory\.pairs"):
        variant(info, tmp_path / "v", training, bridge="spectral")


def test_a_variant_of_another_bridge_leaves_nothing_of_the_last_one(info, tmp_path):
    variant(info, tmp_path, santa={"mix": 0.5})

    found = variant(info, tmp_path, bridge="none")

    assert not (found.directory / "santa_memory.safetensors").exists()


def test_a_memory_without_the_training_run_is_refused(info, tmp_path):
    with pytest.raises(ConfigError, match="name the training run's configuration in `training`"):
        variant(info, tmp_path, memory={"num_clusters": 1})


def test_a_remote_folder_is_refused(info):
    with pytest.raises(ConfigError, match="variant 'v' needs a local folder for its model, out is s3://b/v"):
        variant(info, "s3://b/v", santa=False)


def test_another_trained_model_is_read_as_it_is(info, model_dir, tmp_path):
    assert variant(info, tmp_path, model=str(model_dir)).model_id == info.model_id
