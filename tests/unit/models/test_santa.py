"""Santa's memory: Eq. 6-7 of the paper, row by row, and a file that is checked when it is read."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from mats_ray.errors import ModelError
from mats_ray.models.bridges.kmeans import KMeansResult, kmeans
from mats_ray.models.noise import inject_noise
from mats_ray.models.santa import SantaMemory


def draw(num_rows, dim=12, seed=0):
    return torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def memory():
    return SantaMemory.build(draw(200), num_clusters=9, seed=3)


def by_hand(memory, audio, *, num_neighbours, temperature, mix):
    """Eq. 6 and 7 for one embedding, in loops."""
    z = audio / audio.norm()
    cluster = min(range(9), key=lambda k: float(((z - memory.centroids_KC[k]) ** 2).sum()))
    members = memory.embeddings_NC[memory.offsets_K1[cluster] : memory.offsets_K1[cluster + 1]]
    nearest = sorted(members, key=lambda m: float(((z - m) ** 2).sum()))[:num_neighbours]
    weights = torch.softmax(torch.stack([z @ m / temperature for m in nearest]), dim=0)
    moved = (1 - mix) * z + mix * sum(w * m for w, m in zip(weights, nearest, strict=True))
    return moved / moved.norm()


@pytest.mark.parametrize("num_neighbours", [1, 5, 1000])
def test_transfer_is_the_papers_equations(memory, num_neighbours):
    audio, numbers = 30 * draw(16, seed=1), {"num_neighbours": num_neighbours, "temperature": 0.1, "mix": 0.3}

    moved = memory.transfer(audio, **numbers)

    torch.testing.assert_close(moved, torch.stack([by_hand(memory, row, **numbers) for row in audio]))


@pytest.mark.parametrize("num_neighbours", [2_000_000_000, 2**62])
def test_more_neighbours_than_there_are_need_no_memory(memory, num_neighbours):
    audio = draw(16, seed=1)

    assert torch.equal(
        memory.transfer(audio, num_neighbours=num_neighbours), memory.transfer(audio, num_neighbours=200)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [5e-324, 1e-320, 1e-45, 1e-40, 1e-38, 1e-20])
def test_a_temperature_near_zero_leaves_the_nearest_text(memory, temperature, dtype):
    audio = draw(16, seed=1).to(dtype)

    moved = memory.transfer(audio, num_neighbours=32, temperature=temperature)

    assert torch.equal(moved, memory.transfer(audio, num_neighbours=1))


@pytest.mark.parametrize("num_neighbours", [5, 1000])  # the second: more than a cluster has
@pytest.mark.parametrize("temperature", [1e30, 1.7e308])
def test_a_high_temperature_weighs_all_neighbours_alike(memory, temperature, num_neighbours):
    audio, numbers = draw(16, seed=1), {"num_neighbours": num_neighbours, "mix": 0.3}

    moved = memory.transfer(audio, temperature=temperature, **numbers)

    expected = torch.stack([by_hand(memory, row, temperature=1e9, **numbers) for row in audio])
    torch.testing.assert_close(moved, expected)


def test_a_row_does_not_depend_on_its_batch(memory):
    audio = draw(16, seed=1)

    alone = torch.cat([memory.transfer(audio[row : row + 1]) for row in range(16)])

    assert torch.equal(memory.transfer(audio), alone)


def test_without_mixing_the_audio_embedding_comes_back(memory):
    audio = draw(5, seed=1)

    torch.testing.assert_close(memory.transfer(audio, mix=0.0), normalize(audio, dim=-1))


def test_one_neighbour_and_nothing_but_text_gives_the_nearest_text(memory):
    moved = memory.transfer(memory.embeddings_NC, num_neighbours=1, mix=1.0)

    torch.testing.assert_close(moved, memory.embeddings_NC)


def test_a_small_cluster_gives_what_it_has():
    rows = torch.eye(4)
    memory = SantaMemory.of_clusters(rows, KMeansResult(rows[[0, 1]], torch.tensor([0, 1, 1, 1])))

    moved = memory.transfer(torch.tensor([[1.0, 0.1, 0.0, 0.0]]), num_neighbours=32, mix=1.0)

    torch.testing.assert_close(moved, rows[:1])


def test_an_empty_cluster_is_passed_over():
    rows = torch.eye(4)
    memory = SantaMemory.of_clusters(rows, KMeansResult(torch.eye(4)[[0, 1]], torch.tensor([0, 0, 0, 0])))

    assert len(memory.nearest_clusters(torch.eye(4)[1:2])[0]) == 4


def test_the_memory_is_noised_once_when_it_is_built():
    texts = draw(50)
    generator = torch.Generator().manual_seed(5)

    memory = SantaMemory.build(texts, num_clusters=4, noise_variance=0.02, seed=5)

    noised = inject_noise(texts, variance=0.02, generator=generator)
    clusters = kmeans(noised, num_clusters=4, num_iterations=10, seed=5)
    assert torch.equal(memory.embeddings_NC, noised[clusters.assignment_N.argsort(stable=True)])
    assert torch.equal(memory.offsets_K1.diff(), clusters.assignment_N.bincount(minlength=4))


def test_one_seed_gives_one_memory():
    first, second, other = (SantaMemory.build(draw(50), num_clusters=4, seed=seed) for seed in (1, 1, 2))

    assert torch.equal(first.embeddings_NC, second.embeddings_NC)
    assert not torch.equal(first.embeddings_NC, other.embeddings_NC)


def test_a_saved_memory_comes_back(memory, tmp_path):
    SantaMemory(
        memory.embeddings_NC, memory.offsets_K1, memory.centroids_KC, {"clap": "toy", "format": "mine"}
    ).save(tmp_path / "memory.safetensors")

    loaded = SantaMemory.load(tmp_path / "memory.safetensors")

    audio = draw(5, seed=1)
    assert torch.equal(loaded.transfer(audio), memory.transfer(audio))
    assert loaded.provenance == {"clap": "toy", "format": "mine"}
    assert (loaded.dim, loaded.to("cpu").dim) == (12, 12)


def test_embeddings_of_another_clap_are_refused(memory):
    with pytest.raises(ValueError, match="embeddings are 8-d, the Santa memory is 12-d"):
        memory.transfer(draw(2, dim=8))


def test_the_error_of_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(ModelError, match=r"no Santa memory at .*; make one with `mats memory`"):
        SantaMemory.load(tmp_path / "memory.safetensors")


@pytest.mark.parametrize("size", [4, 60, -8])
def test_a_cut_off_file_is_named(memory, tmp_path, size):
    path = tmp_path / "memory.safetensors"
    memory.save(path)
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(ModelError, match=r"memory\.safetensors cannot be read"):
        SantaMemory.load(path)


def test_other_tensors_are_no_memory(tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")

    with pytest.raises(ModelError, match=r"is not a Santa memory; it holds weight$"):
        SantaMemory.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ({"offsets_K1": torch.tensor([0, 100, 150])}, r"offsets is \(3,\), not \(10,\)"),
        ({"offsets_K1": torch.arange(10)}, "offsets that do not divide its 200 rows"),
        ({"offsets_K1": torch.tensor([0, 9, 8, 20, 30, 40, 50, 60, 70, 200])}, "offsets that do not divide"),
        ({"offsets_K1": torch.arange(10.0)}, "of the wrong type: offsets is float32"),
        ({"centroids_KC": draw(9, dim=11)}, r"centroids is \(9, 11\), not \(9, 12\)"),
        ({"centroids_KC": torch.full((9, 12), torch.inf)}, "not finite: centroids"),
        ({"embeddings_NC": draw(0)}, "offsets that do not divide its 0 rows"),
        ({"embeddings_NC": draw(200).flatten()}, "of the wrong shape: .*embeddings"),
        ({"embeddings_NC": draw(200).char()}, "of the wrong type: embeddings is int8"),
        ({"embeddings_NC": draw(200) / 0}, "not finite: embeddings"),
    ],
)
def test_tensors_that_cannot_be_a_memory_are_named(memory, tmp_path, broken, complaint):
    tensors = {
        name: getattr(memory, name) for name in ("embeddings_NC", "offsets_K1", "centroids_KC")
    } | broken
    SantaMemory(**tensors).save(tmp_path / "memory.safetensors")

    with pytest.raises(ModelError, match=complaint):
        SantaMemory.load(tmp_path / "memory.safetensors")


def test_a_missing_and_an_extra_tensor_are_named(memory, tmp_path):
    path = tmp_path / "memory.safetensors"
    memory.save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({"embeddings": memory.embeddings_NC, "weights": torch.ones(1)}, path, metadata=metadata)

    with pytest.raises(
        ModelError, match=r"2 tensors missing: centroids, offsets; 1 tensors unknown: weights"
    ):
        SantaMemory.load(path)


def test_a_memory_without_readable_provenance_is_named(memory, tmp_path):
    path = tmp_path / "memory.safetensors"
    memory.save(path)
    save_file(load_file(path), path, metadata={"mats_santa_memory": "{"})

    with pytest.raises(ModelError, match="the provenance of the Santa memory"):
        SantaMemory.load(path)


def test_equal_memories_are_equal_files(tmp_path):
    rows = torch.nn.functional.normalize(
        torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), dim=1
    )
    facts = {f"fact {n}": str(n) for n in range(8)}

    for name in "ab":
        SantaMemory.build(rows, num_clusters=3, provenance=facts).save(tmp_path / name)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert SantaMemory.load(tmp_path / "a").provenance == facts
