"""Embedded triplets to a Santa memory: its size, its rows, its path, and the identity of its CLAP."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mats_ray.config import RunConfig
from mats_ray.data.bridge_state import check_state
from mats_ray.data.embedding.embed_plan import EmbedLedger
from mats_ray.data.embedding.noise_variance import training_variance
from mats_ray.data.embedding.partition import write_partition
from mats_ray.data.embedding.shuffle import scatter
from mats_ray.data.santa_memory import build_memory
from mats_ray.data.triplets import embedded_schema, embedding_array, triplet_table
from mats_ray.errors import DataError, ModelError
from mats_ray.models.clap import load_clap
from mats_ray.models.santa import SantaMemory
from tests.s3 import s3_server
from tests.unit.data.embedding.test_noise_variance import caption
from tests.unit.data.embedding.triplets import CountingCLAP, plan_of, rows_of
from tests.unit.data.test_embedded import OTHER, OURS, WORDS, embedding_of, half, write


def configured(output_dir, **memory):
    tree = {"toy": {}, "output_dir": str(output_dir), "memory": {"num_rows": 20, "num_clusters": 3} | memory}
    return RunConfig.model_validate(tree)


@pytest.fixture
def out(tmp_path):
    write(tmp_path / "embedded" / "part-00000.parquet", WORDS)
    return tmp_path


def test_a_memory_holds_the_configured_rows_and_clusters(out):
    config = configured(out)

    built = build_memory(config)
    loaded = SantaMemory.load(config.memory_path)

    assert loaded.embeddings_NC.shape == (20, 8)
    assert loaded.centroids_KC.shape == (3, 8)
    assert torch.equal(loaded.embeddings_NC, built.embeddings_NC)
    assert loaded.provenance == {"clap": str(OURS), "noise_variance": "0.015", "seed": "0"}


def test_a_small_data_set_gives_what_it_has(out):
    memory = build_memory(configured(out, num_rows=1000, num_clusters=100))

    assert len(memory.embeddings_NC) == len(memory.centroids_KC) == len(WORDS)


def test_without_noise_the_rows_are_the_embeddings_of_the_texts(out):
    memory = build_memory(configured(out, num_rows=1000, noise_variance=0))

    expected = half(embedding_of(WORDS))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = memory.embeddings_NC.numpy()
    np.testing.assert_allclose(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], atol=1e-6)


def test_the_same_seed_gives_the_same_memory_another_seed_another(out):
    config = configured(out)
    one, two, other = build_memory(config), build_memory(config), build_memory(config.replace(seed=1))

    assert torch.equal(one.embeddings_NC, two.embeddings_NC)
    assert torch.equal(one.offsets_K1, two.offsets_K1)
    assert torch.equal(one.centroids_KC, two.centroids_KC)
    assert not torch.equal(one.embeddings_NC, other.embeddings_NC)


def test_a_memory_goes_to_s3_and_is_read_from_there(out):
    with s3_server("memories"):
        config = configured(out, path="s3://memories/deep/down/memory.safetensors")
        build_memory(config)

        check_state(config, OURS)
        with pytest.raises(DataError, match="s3://memories/deep/down"):
            check_state(config, OTHER)


def test_without_embedded_triplets_the_place_is_named(tmp_path):
    with pytest.raises(DataError, match=f"no Parquet files at {tmp_path}/embedded"):
        build_memory(configured(tmp_path))


def test_the_memory_of_another_clap_is_refused_naming_both(out):
    config = configured(out)
    build_memory(config)

    check_state(config, OURS)
    with pytest.raises(DataError) as caught:
        check_state(config, OTHER)

    expected = (
        f"the Santa memory {config.memory_path} was made with {OURS}, not with {OTHER}; run `mats memory`"
    )
    assert str(caught.value).startswith(expected)


def test_a_memory_without_a_clap_identity_is_accepted(out):
    config = configured(out)
    SantaMemory.build(torch.eye(8), num_clusters=2).save(config.memory_path)

    check_state(config, OURS)


def test_a_memory_that_is_cut_off_is_refused_before_training(out):
    config = configured(out)
    build_memory(config)
    path = out / "santa_memory.safetensors"
    path.write_bytes(path.read_bytes()[:-10])

    with pytest.raises(ModelError, match="cannot be read"):
        check_state(config, OURS)


def test_texts_that_are_embedded_online_give_the_memory_that_stored_embeddings_give(tmp_path, monkeypatch):
    monkeypatch.setattr("mats_ray.data.santa_memory.build_clap", lambda _: CountingCLAP())
    memories = []
    for name in ("stored", "online"):
        plan = plan_of(tmp_path / name, rows_of(60, texts=20), embed={"mode": name, "num_partitions": 2})
        EmbedLedger(plan).start()
        scatter(plan, 0)
        done = [write_partition(plan, n, CountingCLAP(), batch_size=4) for n in range(2)]
        EmbedLedger(plan).finish(done, {})
        config = RunConfig.model_validate(
            {
                "output_dir": str(tmp_path / name),
                "model": {"clap": {"ref": "x", "dim": 8}, "llm": {"path": "x"}},
                "memory": {"num_rows": 12, "num_clusters": 3},
            }
        )
        memories.append(build_memory(config))

    stored, online = memories
    assert stored.provenance == online.provenance
    np.testing.assert_allclose(stored.embeddings_NC, online.embeddings_NC, atol=2e-3)  # float16


def test_a_variance_of_auto_is_that_of_captions_of_one_clip(tmp_path, model_dir):
    words = ("dog", "rain", "siren", "bell")
    texts = [(clip, f"a {clip} {word}") for clip in words for word in words]
    clap = load_clap(model_dir.parent / "clap")
    rows = [caption(f"clotho/train/{clip}/{n}", text) for n, (clip, text) in enumerate(texts)]
    columns = [*triplet_table(rows).columns, embedding_array(clap.encode_text([t for _, t in texts]).numpy())]
    (tmp_path / "embedded").mkdir()
    table = pa.Table.from_arrays(columns, schema=embedded_schema(clap.identity))
    pq.write_table(table, tmp_path / "embedded" / "part-00000.parquet")
    config = configured(tmp_path, noise_variance="auto", num_rows=12)
    config = config.replace(model={"clap": {"ref": str(model_dir.parent / "clap")}})

    memory = build_memory(config)

    variance = training_variance(config).value
    assert memory.provenance["noise_variance"] == str(variance)
    same = build_memory(config.replace(memory={"noise_variance": variance}))
    assert torch.equal(memory.embeddings_NC, same.embeddings_NC)
