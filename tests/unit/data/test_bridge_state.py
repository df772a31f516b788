"""What `mats memory` builds for each bridge: from texts, from audio beside them, from pairs."""

import json

import numpy as np
import pytest
import torch

from mats_ray.config import RunConfig
from mats_ray.config.bridge import SpectralConfig
from mats_ray.data.audio import read_audio
from mats_ray.data.bridge_state import build_state, check_state, read_pairs
from mats_ray.data.embedded import distinct_embeddings
from mats_ray.data.santa_memory import draw_texts
from mats_ray.errors import AudioError, ConfigError, DataError, ModelError
from mats_ray.models.bridges.mean_shift import MeanShift
from mats_ray.models.bridges.spectral import Spectral
from mats_ray.models.clap import load_clap
from mats_ray.models.santa import SantaMemory
from mats_ray.types import CLAPIdentity
from tests.sounds import sndfile_bytes, tone
from tests.unit.data.test_embedded import WORDS, write
from tests.world import CLAP_DIM, SAMPLE_RATE

OTHER = CLAPIdentity(family="transformers", checkpoint_hash="fedcba9876543210", dim=CLAP_DIM)
CAPTIONS = ("a dog barks", "rain falls", "a siren wails", "a bell rings")


@pytest.fixture(scope="module")
def clap(model_dir):
    return load_clap(model_dir.parent / "clap")


@pytest.fixture
def sounds(tmp_path):
    """Four clips, and a file that pairs them with texts."""
    lines = []
    (tmp_path / "audio").mkdir()
    for number, text in enumerate(CAPTIONS):
        samples = np.sin(np.arange(8000) * (0.05 + 0.11 * number)).astype(np.float32)
        (tmp_path / "audio" / f"{number}.wav").write_bytes(sndfile_bytes(0.3 * samples, SAMPLE_RATE))
        lines.append(json.dumps({"path": f"audio/{number}.wav", "text": text}))
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def configured(sounds, clap, model_dir):
    write(sounds / "embedded" / "part-00000.parquet", WORDS, identity=clap.identity)

    def make(bridge, **memory):
        model = {"bridge": bridge, "clap": {"ref": str(model_dir.parent / "clap"), "dim": CLAP_DIM}}
        tree = {"toy": {}, "output_dir": str(sounds), "model": model}
        return RunConfig.model_validate(tree | {"memory": {"num_rows": 20, "num_clusters": 3} | memory})

    return make


def encoded(clap, sounds):
    clips = [read_audio(sounds / "audio" / f"{number}.wav").samples for number in range(4)]
    return clap.encode_audio(clips, SAMPLE_RATE)


def test_a_mean_shift_takes_the_means_of_texts_and_of_audio(configured, clap, sounds):
    config = configured("mean_shift", audio=str(sounds / "audio"))

    assert build_state(config) == "means of 20 texts and 4 clips"

    state = MeanShift.load(config.memory_path)
    assert config.memory_path.endswith("mean_shift.safetensors")
    torch.testing.assert_close(state.audio_mean_C, encoded(clap, sounds).mean(0), rtol=0, atol=1e-6)
    texts, _ = distinct_embeddings(config.embedded_path, num_rows=20, seed=0)
    expected = (texts / np.linalg.norm(texts, axis=1, keepdims=True)).mean(0)
    np.testing.assert_allclose(state.text_mean_C, expected, atol=1e-5)
    assert state.provenance == {"clap": str(clap.identity), "texts": "20", "clips": "4"}


def test_texts_and_audio_of_two_claps_have_no_means_in_common(configured, sounds):
    write(sounds / "embedded" / "part-00000.parquet", WORDS, identity=OTHER)

    with pytest.raises(DataError, match=rf"was embedded with {OTHER.family} CLAP {OTHER.checkpoint_hash}"):
        build_state(configured("mean_shift", audio=str(sounds / "audio")))


def test_the_audio_of_a_mean_shift_may_be_a_manifest(configured, sounds):
    assert build_state(configured("mean_shift", audio=str(sounds / "pairs.jsonl"))).endswith("and 4 clips")


def test_a_projection_has_texts_without_noise(configured):
    config = configured("projection")

    assert build_state(config) == "20 texts, without noise"

    memory = SantaMemory.load(config.memory_path)
    texts, _ = draw_texts(config)
    found, expected = memory.embeddings_NC.numpy(), texts / np.linalg.norm(texts, axis=1, keepdims=True)
    np.testing.assert_allclose(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], atol=1e-6)
    assert len(memory.centroids_KC) == 1
    assert memory.provenance["noise_variance"] == "0.0"


def test_a_spectral_bridge_is_fitted_to_pairs(configured, clap, sounds):
    config = configured("spectral", pairs=str(sounds / "pairs.jsonl"))

    summary = build_state(config)

    state = Spectral.load(config.memory_path, SpectralConfig())
    assert summary == f"{state.num_axes} axes of 4 pairs, {state.num_axes} of them used"
    assert state.provenance == {"clap": str(clap.identity), "pairs": "4"}
    expected = Spectral.fit(encoded(clap, sounds), clap.encode_text(list(CAPTIONS)))
    torch.testing.assert_close(state.covariance_K, expected.covariance_K, rtol=1e-3, atol=1e-6)


def test_the_same_seed_gives_the_same_file_and_fewer_clips_may_be_drawn(configured, sounds):
    config = configured("spectral", pairs=str(sounds / "pairs.jsonl"), num_clips=3)

    contents = []
    for _ in range(2):
        assert build_state(config).partition(" axes of ")[2].startswith("3 pairs")
        contents.append((sounds / "spectral.safetensors").read_bytes())

    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("bridge", "message"),
    [
        ("mean_shift", r"the bridge 'mean_shift' needs audio, .* without texts: set memory\.audio$"),
        ("spectral", r"the bridge 'spectral' needs a JSONL, .* of path and text: set memory\.pairs$"),
        ("none", r"model\.bridge is none: there is nothing to build"),
    ],
)
def test_what_a_bridge_needs_is_named(configured, bridge, message):
    with pytest.raises(ConfigError, match=message):
        build_state(configured(bridge))


def test_pairs_that_cannot_be_used_are_one_line(configured, sounds):
    file = sounds / "pairs.jsonl"
    config = configured("spectral", pairs=str(file))

    file.write_text('{"path": "audio/0.wav", "text": "a dog"}\n')
    with pytest.raises(DataError, match=r"pairs\.jsonl names 1 pair; a spectral bridge needs at least 2"):
        build_state(config)
    file.write_text('{"path": "audio/0.wav"}\n{"path": "audio/1.wav", "text": "rain"}\n')
    with pytest.raises(DataError, match=r"audio/0\.wav has no text in a column text or caption"):
        build_state(config)
    file.write_text('{"path": "audio/0.wav", "text": "a"}\n{"path": "audio/9.wav", "text": "b"}\n')
    with pytest.raises(AudioError, match=r"no audio file .*audio/9\.wav"):
        build_state(config)


def test_equal_pairs_have_no_axis(configured, sounds):
    (sounds / "audio" / "copy.wav").write_bytes((sounds / "audio" / "0.wav").read_bytes())
    (sounds / "pairs.jsonl").write_text(
        '{"path": "audio/0.wav", "text": "a dog"}\n{"path": "audio/copy.wav", "text": "a dog"}\n'
    )

    with pytest.raises(DataError, match=r"pairs\.jsonl: 2 pairs have no axis in common"):
        build_state(configured("spectral", pairs=str(sounds / "pairs.jsonl")))


def test_a_csv_of_captions_is_read_and_a_clip_counts_once(sounds):
    (sounds / "pairs.csv").write_text("Path,caption\naudio/0.wav,one\naudio/0.wav,two\naudio/1.wav,three\n")

    found = list(read_pairs(str(sounds / "pairs.csv")))

    assert found == [(str(sounds / "audio" / "0.wav"), "one"), (str(sounds / "audio" / "1.wav"), "three")]


@pytest.mark.parametrize("bridge", ["santa", "projection", "mean_shift", "spectral"])
def test_a_state_of_another_clap_is_refused_before_training(configured, clap, sounds, bridge):
    config = configured(bridge, audio=str(sounds / "audio"), pairs=str(sounds / "pairs.jsonl"))
    build_state(config)

    check_state(config, clap.identity)
    with pytest.raises(DataError, match=rf"was made with {clap.identity.family}.*; run `mats memory` again"):
        check_state(config, OTHER)


def test_a_file_of_another_bridge_is_refused_before_training(configured, clap, sounds):
    config = configured("mean_shift", audio=str(sounds / "audio"), path=str(sounds / "state"))
    build_state(config)

    with pytest.raises(ModelError, match="is not the state of a bridge 'spectral'"):
        check_state(configured("spectral", path=str(sounds / "state")), clap.identity)


def test_clips_of_any_rate_are_embedded(configured, sounds):
    (sounds / "audio" / "other.wav").write_bytes(sndfile_bytes(tone(), 22_050))

    assert build_state(configured("mean_shift", audio=str(sounds / "audio"))).endswith("5 clips")
