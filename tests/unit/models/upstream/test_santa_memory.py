"""A released memory file, tensor or list, becomes a Santa memory."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mats_ray.config.santa import MemoryConfig
from mats_ray.errors import ModelError
from mats_ray.models.upstream import santa_memory as module
from mats_ray.models.upstream.santa_memory import build_memory, read_rows

ROWS = normalize(torch.randn(30, 6, generator=torch.Generator().manual_seed(8)), dim=-1)


@pytest.mark.parametrize(
    "content",
    [ROWS, ROWS.half(), list(ROWS), [row[None] for row in ROWS], [row.numpy() for row in ROWS]],
    ids=["tensor", "half", "list", "list of (1, C)", "numpy"],
)
def test_every_form_upstream_writes_is_read(tmp_path, content):
    torch.save(content, tmp_path / "memory.pt")

    rows = read_rows(tmp_path / "memory.pt", dim=6)

    torch.testing.assert_close(rows, ROWS, rtol=0, atol=1e-3)
    assert rows.dtype == torch.float32


@pytest.mark.parametrize(
    "content", [{"a": 1}, [ROWS[0], ROWS[0, :3]], ["a dog"], 7], ids=["dict", "ragged", "texts", "number"]
)
def test_anything_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "memory.pt")

    with pytest.raises(ModelError, match=r"memory\.pt holds no memory"):
        read_rows(tmp_path / "memory.pt", dim=6)


@pytest.mark.parametrize("content", [ROWS[:, :4], ROWS[0], ROWS[:0]], ids=["width", "one row", "none"])
def test_another_claps_width_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "memory.pt")

    with pytest.raises(ModelError, match=r"a memory for this CLAP is \(N, 6\)"):
        read_rows(tmp_path / "memory.pt", dim=6)


def sorted_rows(rows):
    return np.array(sorted(rows.tolist()))


def test_upstreams_memory_is_not_noised():
    memory = build_memory(ROWS, compat="upstream", source="memory.pt")

    np.testing.assert_allclose(sorted_rows(memory.embeddings_NC), sorted_rows(ROWS), atol=1e-6)
    assert memory.provenance["source"] == "memory.pt"
    assert len(memory.centroids_KC) == 30  # no more clusters than rows


def test_the_papers_memory_is_noised_when_built():
    memory = build_memory(ROWS, compat="paper", source="memory.pt")

    assert not np.allclose(sorted_rows(memory.embeddings_NC), sorted_rows(ROWS), atol=1e-2)


def test_of_too_many_rows_different_ones_are_drawn(monkeypatch):
    monkeypatch.setattr(module, "MemoryConfig", lambda: MemoryConfig(num_rows=20, num_clusters=4))

    memory = build_memory(ROWS, compat="upstream", source="memory.pt")

    kept = {tuple(row) for row in (memory.embeddings_NC * 1e4).round().tolist()}
    assert len(kept) == 20  # upstream's shuffle would leave rows twice
    assert len(memory.centroids_KC) == 4
