"""Santa on any memory: on the sphere, between the audio and the texts, the same in any batch."""

import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from mats_ray.models.santa import SantaMemory

numbers = st.fixed_dictionaries(
    {
        "num_neighbours": st.integers(1, 60),
        "temperature": st.floats(0.01, 10),
        "mix": st.floats(0, 1),
    }
)


@st.composite
def memories(draw):
    num_rows = draw(st.integers(1, 50))
    rows = torch.randn(num_rows, 6, generator=torch.Generator().manual_seed(draw(st.integers(0, 1000))))
    if draw(st.booleans()):
        rows[num_rows // 2 :] = rows[: num_rows - num_rows // 2].clone()  # equal texts
    return SantaMemory.build(
        rows,
        num_clusters=draw(st.integers(1, num_rows)),
        noise_variance=draw(st.sampled_from([0.0, 0.015])),
        seed=draw(st.integers(0, 3)),
    )


def clips(num_clips=5):
    return 10 * torch.randn(num_clips, 6, generator=torch.Generator().manual_seed(1))


@settings(deadline=None, max_examples=100)
@given(memories(), numbers)
def test_a_clip_moves_the_same_alone_and_in_any_order(memory, santa):
    together = memory.transfer(clips(), **santa)

    assert torch.equal(memory.transfer(clips().flip(0), **santa).flip(0), together)
    for row in range(5):
        assert torch.equal(memory.transfer(clips()[row : row + 1], **santa)[0], together[row])


@settings(deadline=None, max_examples=100)
@given(memories(), numbers, st.floats(0.1, 100))
def test_santa_returns_unit_vectors_for_input_of_any_length(memory, santa, scale):
    moved = memory.transfer(clips(), **santa)

    torch.testing.assert_close(moved.norm(dim=-1), torch.ones(5))
    torch.testing.assert_close(memory.transfer(scale * clips(), **santa), moved, rtol=0, atol=1e-3)


@settings(deadline=None, max_examples=100)
@given(memories(), st.floats(0.01, 10))
def test_it_moves_towards_the_most_similar_text_of_the_cluster(memory, temperature):
    audio = normalize(clips(), dim=-1)

    moved = memory.transfer(audio, num_neighbours=1, temperature=temperature, mix=0.3)

    for before, after, rows in zip(audio, moved, memory.nearest_clusters(audio), strict=True):
        nearest = rows[(rows @ before).argmax()]
        assert after @ nearest >= before @ nearest - 1e-5


@settings(deadline=None, max_examples=30)
@given(memories())
def test_a_saved_memory_is_the_same(memory):
    with tempfile.TemporaryDirectory() as folder:
        memory.save(Path(folder) / "memory.safetensors")
        loaded = SantaMemory.load(Path(folder) / "memory.safetensors")

    assert torch.equal(loaded.transfer(clips()), memory.transfer(clips()))
    assert int(memory.offsets_K1[-1]) == len(memory.embeddings_NC)
