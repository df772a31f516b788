"""The modality gap on sets of vectors whose gap is known, and of a benchmark from kept embeddings."""

import json

import numpy as np
import pyarrow as pa
import pytest

from mats_ray.caption.embeddings import SCHEMA, EmbeddingStore
from mats_ray.caption.part_writer import PartWriter
from mats_ray.evaluate.gap import measure_gap, modality_gap, write_gap
from mats_ray.models.clap import load_clap
from mats_ray.models.directory import read_info
from tests.unit.evaluate.logs import row, write_log


def pairs(gap):
    """Text along three axes, audio the same with one more component, all of unit length."""
    text_NC = np.eye(4)[:3]
    audio_NC = np.hstack([np.eye(3) * (1 - gap**2) ** 0.5, np.full((3, 1), gap)])
    return audio_NC, text_NC


def test_the_gap_is_the_distance_between_the_centres():
    audio_NC = np.array([[1.0, 0.0], [0.0, 1.0]])
    text_NC = np.array([[-1.0, 0.0], [0.0, 1.0]])

    assert modality_gap(audio_NC, text_NC) == pytest.approx(1.0)
    assert modality_gap(audio_NC, audio_NC[::-1]) == 0


def test_cosines_of_a_known_gap_before_and_after_santa():
    audio_NC, text_NC = pairs(0.8)

    gap = measure_gap(audio_NC, text_NC, text_NC)

    assert gap["matching"] == pytest.approx(0.6)
    assert gap["others"] == pytest.approx(0.0)
    assert gap["centroids"] > 0.8
    assert (gap["matching_after_santa"], gap["centroids_after_santa"]) == (pytest.approx(1), 0)


def test_cosines_of_all_others_are_those_of_the_whole_matrix():
    draw = np.random.default_rng(0)
    audio_NC, text_NC = draw.normal(size=(2, 50, 6))

    others = (audio_NC @ text_NC.T)[~np.eye(50, dtype=bool)].mean()

    assert measure_gap(audio_NC, text_NC, audio_NC)["others"] == pytest.approx(others)


def test_one_clip_has_no_others():
    assert measure_gap(np.eye(2)[:1], np.eye(2)[:1], np.eye(2)[:1])["others"] == 0


def test_a_benchmark_is_measured_from_kept_embeddings_and_its_first_captions(model_dir, tmp_path):
    info = read_info(model_dir)
    texts = load_clap(info.model.clap.ref).encode_text(["a dog barks", "rain falls"]).numpy()
    store = EmbeddingStore(str(tmp_path / "kept"), info.space)
    rows = [
        {"path": f"/clips/{name}.wav", "etag": "", "end_s": 1.0, "embedding": text_C}
        for name, text_C in zip("ab", texts, strict=True)
    ]
    with PartWriter(store.parts, part_rows=1_000) as writer:
        writer.add(pa.Table.from_pylist(rows, schema=SCHEMA))
    samples = [row("a", "a dog barks", ""), row("b", "rain falls", ""), row("c", "a bell", "", "missing")]
    log = write_log(tmp_path / "tiny", samples)

    gap = write_gap(log, info, str(tmp_path / "kept"))

    assert gap["clips"] == 2
    assert gap["matching"] == pytest.approx(1, abs=1e-5)
    assert gap["centroids"] == pytest.approx(0, abs=1e-5)
    assert gap["matching_after_santa"] < 1 - 1e-3
    assert json.loads((tmp_path / "tiny/gap.json").read_text()) == gap


def test_without_embeddings_there_is_no_gap(model_dir, tmp_path):
    log = write_log(tmp_path / "tiny", [row("a", "a dog barks", "")])

    assert write_gap(log, read_info(model_dir), str(tmp_path / "kept")) == {}
