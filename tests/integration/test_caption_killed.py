"""A captioning job whose processes are killed at drawn moments ends like an unbroken one."""

import itertools
import logging
import os

import pyarrow.parquet as pq
import pytest

from mats_ray.caption import on_ray
from mats_ray.caption.on_ray import caption
from tests import kills
from tests.integration.test_caption import encoded, parts_of, sound, write_bad, write_good
from tests.kills import Job, Kill

pytestmark = pytest.mark.ray

NUM_FILES = 50
KINDS = ["decoder", "model", "driver"]
NUM_KILLS = int(os.environ.get("MATS_KILLS", "3"))
logger = logging.getLogger(__name__)


def rows_at(out):
    return sorted(pq.read_table(out).to_pylist(), key=lambda row: (row["path"], row["segment"]))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Files of one to six windows, and one of each bad kind."""
    folder = tmp_path_factory.mktemp("killed") / "clips"
    write_good(folder, 10)
    for i in range(NUM_FILES - 10):
        (folder / f"{i:03d}.flac").write_bytes(encoded(sound(100 + i, 1 + i % 20), format="FLAC"))
    write_bad(folder)
    return folder


@pytest.fixture(scope="module")
def unbroken(ray_cluster, clips, model_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "out"
    caption(*kills.SECTIONS, audio=str(clips), out=str(out), model=str(model_dir))
    return rows_at(out)


@pytest.mark.slow
def test_whatever_is_killed_each_file_has_its_rows_once(
    unbroken, clips, ray_cluster, model_dir, tmp_path, monkeypatch
):
    planned, num_hits = Kill.draw(KINDS, seed=6), 0

    while num_hits < NUM_KILLS:
        out = tmp_path / f"out {num_hits}"
        job = Job(
            address=ray_cluster["gcs_address"],
            audio=str(clips),
            out=str(out),
            model=str(model_dir),
            log=logger.info,
        )
        num_hits += job.run(itertools.islice(planned, NUM_KILLS - num_hits))
        assert rows_at(out) == unbroken

    before = parts_of(out)
    monkeypatch.setattr(on_ray, "write_missing_rows", None)  # would fail if it were called
    summary = caption(*kills.SECTIONS, audio=str(clips), out=str(out), model=str(model_dir))
    assert parts_of(out) == before
    assert "nothing to do" in str(summary)
