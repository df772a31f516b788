"""The offline world: built once, from the seed, and what is held out is in none of its parts."""

import itertools
import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.config import RunConfig
from mats_ray.data.santa_memory import build_memory
from mats_ray.data.triplets import SCHEMA, embedded_schema, embedding_array
from mats_ray.errors import ConfigError, DataError
from mats_ray.models.clap import load_clap
from mats_ray.models.llm import load_llm, load_tokenizer
from mats_ray.models.santa import SantaMemory
from mats_ray.tasks import Task
from mats_ray.toy.grammar import canonical_caption, kind_of
from mats_ray.toy.world import (
    CLAP_STREAM,
    MARKER,
    NOVEL_STREAM,
    READ_STREAM,
    SUPERVISED_STREAM,
    TEXT_STREAM,
    VALIDATION_NOVEL_STREAM,
    VALIDATION_READ_STREAM,
    ensure_training_data,
    ensure_world,
    split_of,
    text_triplets,
)
from tests.toy import tiny_config
from tests.unit.toy.conftest import SMALL

OF_TRAINING_SCENES = (CLAP_STREAM, TEXT_STREAM, SUPERVISED_STREAM, READ_STREAM, VALIDATION_READ_STREAM)
STREAMS = (*OF_TRAINING_SCENES, NOVEL_STREAM, VALIDATION_NOVEL_STREAM)
SMALLEST = SMALL | {"clap_takes": 1, "clap_steps": 1, "llm_steps": 1, "num_texts": 10}


def files_below(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.is_file()}


def weights(config):
    return [Path(f"{folder}/model.safetensors").read_bytes() for folder in (config.clap_ref, config.llm_path)]


@pytest.fixture
def own_world(tmp_path):
    config = tiny_config(tmp_path / "own", toy=SMALLEST)
    ensure_world(config)
    return config


@pytest.fixture
def copied_world(world, tmp_path):
    """The shared world, in a place where a test may spoil it."""
    shutil.copytree(world.output_dir, tmp_path / "copy")
    return world.replace(output_dir=str(tmp_path / "copy"))


def test_its_parts_load_like_any_others(world):
    assert load_clap(world.clap_ref).dim == world.model.clap.dim
    model, tokenizer = load_llm(world.llm_path), load_tokenizer(world.llm_path)
    assert model.config.vocab_size == len(tokenizer)
    table = pq.read_table(world.triplets_path)
    assert table.schema.names == SCHEMA.names
    assert len(table) == 2 * world.toy.num_texts


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_only_two_streams_draw_what_is_withheld_each_its_own(world, seed):
    config = world.replace(seed=seed)
    split = split_of(config)

    scenes = {
        stream: {clip.scene for clip in split.clips(stream, count=500, seed=seed)} for stream in STREAMS
    }

    assert not set(split.train) & {*split.novel, *split.validation}
    assert scenes[NOVEL_STREAM] <= set(split.novel)
    assert scenes[VALIDATION_NOVEL_STREAM] <= set(split.validation)
    for stream in OF_TRAINING_SCENES:
        assert scenes[stream] <= set(split.train)


def test_no_text_describes_a_withheld_scene(world):
    rows = pq.read_table(world.triplets_path).to_pylist()
    described = {row["answer"] for row in rows if row["task"] == Task.CAPTION}

    assert described
    split = split_of(world)
    assert not described & {canonical_caption(scene) for scene in (*split.novel, *split.validation)}


def test_clips_of_different_uses_are_different_clips(world):
    split = split_of(world)
    seeds = {stream: {clip.seed for clip in split.clips(stream, count=200, seed=0)} for stream in STREAMS}

    assert all(not seeds[one] & seeds[other] for one, other in itertools.combinations(STREAMS, 2))


def test_the_texts_on_disk_follow_from_the_seed(world):
    rows = pq.read_table(world.triplets_path).to_pylist()

    assert [row["id"] for row in rows] == [row.id for row in text_triplets(world, split_of(world))]
    assert len({row["id"] for row in rows}) == len(rows)


def test_each_text_has_a_caption_and_one_question_of_kinds_drawn_evenly(world):
    config = world.replace(toy={"num_texts": 600})
    rows = text_triplets(config, split_of(config))

    assert [kind_of(row.id) for row in rows[::2]] == 600 * ["caption"]
    kinds = Counter(kind_of(row.id) for row in rows[1::2])
    assert set(kinds) == {"presence", "identify", "count", "relation", "order"}
    assert all(one.text == other.text for one, other in itertools.pairwise(rows[:2]))
    assert abs(kinds["presence"] - kinds["identify"]) < 100


def test_it_is_built_once(own_world):
    before = files_below(own_world.output_dir)

    ensure_world(own_world)
    ensure_world(own_world.replace(train={"num_steps": 99}, name="other"))

    assert files_below(own_world.output_dir) == before


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"toy": {"llm_steps": 2}}, {"model": {"clap": {"dim": 8}}}], ids=str
)
def test_another_seed_or_size_builds_another(own_world, change):
    before = weights(own_world)

    ensure_world(own_world.replace(**change))

    assert weights(own_world) != before


def test_the_same_seed_builds_the_same_world(own_world, tmp_path):
    again = own_world.replace(output_dir=str(tmp_path / "again"))
    ensure_world(again)

    assert weights(again) == weights(own_world)
    assert pq.read_table(again.triplets_path).equals(pq.read_table(own_world.triplets_path))


def test_half_a_world_does_not_pass_for_the_one_before(own_world):
    before = weights(own_world)
    shutil.rmtree(own_world.triplets_path)
    Path(own_world.triplets_path).touch()
    with pytest.raises(FileExistsError):  # after CLAP and language model of another seed are written
        ensure_world(own_world.replace(seed=1))
    assert weights(own_world) != before
    Path(own_world.triplets_path).unlink()

    ensure_world(own_world)

    assert weights(own_world) == before
    assert json.loads((Path(own_world.toy_dir) / MARKER).read_text())["fingerprint"]


NAMED = {
    "clap": lambda folder: {"model": {"clap": {"ref": folder}}},
    "llm": lambda folder: {"model": {"llm": {"path": folder}}},
    "triplets": lambda folder: {"data": {"triplets": folder}},
}


@pytest.mark.parametrize("part", NAMED)
def test_a_part_that_is_named_is_neither_built_nor_touched(part, own_world, tmp_path):
    mine = shutil.copytree(Path(own_world.toy_dir) / part, tmp_path / "mine")
    before = files_below(mine)
    config = tiny_config(tmp_path / "out", toy=SMALLEST).replace(**NAMED[part](str(mine)))

    ensure_world(config)

    assert files_below(mine) == before
    assert {path.name for path in Path(config.output_dir).iterdir()} == {"toy"}
    assert {path.name for path in Path(config.toy_dir).iterdir()} == {MARKER, *NAMED} - {part}


def test_prepared_triplets_are_not_mixed_with_the_toys(tmp_path):
    config = tiny_config(tmp_path, toy=SMALLEST)
    config = config.replace(data={"prepare": {"sources": [{"source": "clotho", "path": "x"}]}})

    ensure_world(config)

    assert not Path(config.triplets_path).exists()
    assert {path.name for path in Path(config.toy_dir).iterdir()} == {MARKER, "clap", "llm"}


def test_nothing_is_built_where_every_part_is_named(own_world, tmp_path):
    config = tiny_config(tmp_path / "out").replace(
        model={"clap": {"ref": own_world.clap_ref}, "llm": {"path": own_world.llm_path}},
        data={"triplets": own_world.triplets_path},
    )

    ensure_world(config)

    assert not Path(config.output_dir).exists()


def test_a_part_that_is_named_no_more_is_built_beside_the_others(own_world, tmp_path):
    config = tiny_config(tmp_path / "out", toy=SMALLEST)
    ensure_world(config, parts=("clap", "triplets"))
    before = files_below(config.toy_dir)
    assert not Path(config.llm_path).exists()

    ensure_world(config)

    after = files_below(config.toy_dir)
    assert weights(config) == weights(own_world)
    assert {path for path in before if after[path] == before[path]} == before.keys() - {
        Path(config.toy_dir) / MARKER
    }


@pytest.mark.parametrize("key", ["data.triplets", "data.embedded", "memory.path"])
def test_a_named_input_that_is_not_there_is_one_line_and_nothing_is_built(key, tmp_path):
    section, name = key.split(".")
    config = tiny_config(tmp_path / "out", **{section: {name: str(tmp_path / "mine")}})

    with pytest.raises(
        DataError, match=rf"^{key} names {tmp_path}/mine, and nothing is there; a toy"
    ) as caught:
        ensure_training_data(config)

    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_without_a_toy_section_nothing_is_built(tmp_path):
    parts = {"clap": {"ref": "clap.pt"}, "llm": {"path": "llama"}}
    config = RunConfig.model_validate({"output_dir": str(tmp_path / "out"), "model": parts})

    ensure_world(config)
    ensure_training_data(config)

    assert not (tmp_path / "out").exists()


def test_a_bucket_is_no_place_for_a_toy_world():
    with pytest.raises(ConfigError, match="built in a local folder, output_dir is s3://bucket/x"):
        ensure_world(tiny_config("s3://bucket/x"))


def embed_here(config, *, rows=None):
    """Write what ``mats embed`` writes, without a cluster."""
    clap, table = load_clap(config.clap_ref), pq.read_table(config.triplets_path)
    table = table.slice(0, rows)
    columns = [*table.columns, embedding_array(clap.encode_text(table.column("text").to_pylist()).numpy())]
    Path(config.embedded_path).mkdir(exist_ok=True)
    embedded = pa.Table.from_arrays(columns, schema=embedded_schema(clap.identity))
    pq.write_table(embedded, f"{config.embedded_path}/part-00000.parquet")


@pytest.fixture
def embedded(monkeypatch):
    """Configurations that were handed to ``mats embed``, which finds its work done."""
    calls = []
    monkeypatch.setattr("mats_ray.toy.world.embed", calls.append)
    return calls


def test_what_is_there_is_not_made_again(copied_world, embedded):
    embed_here(copied_world)
    build_memory(copied_world)
    before = files_below(copied_world.output_dir)

    ensure_training_data(copied_world)

    assert embedded == [copied_world]  # its ledger holds what is done
    assert files_below(copied_world.output_dir) == before


def test_named_embeddings_are_not_made_and_need_no_triplets(copied_world, tmp_path, embedded):
    embed_here(copied_world)
    mine = shutil.move(copied_world.embedded_path, tmp_path / "mine")
    before = files_below(mine)
    config = copied_world.replace(output_dir=str(tmp_path / "out"), data={"embedded": str(mine)})

    ensure_training_data(config)

    assert embedded == []
    assert files_below(mine) == before
    assert {path.name for path in Path(config.toy_dir).iterdir()} == {MARKER, "clap", "llm"}


def test_a_missing_memory_is_made_from_the_embeddings_there_are(copied_world, embedded):
    embed_here(copied_world)

    ensure_training_data(copied_world)

    assert SantaMemory.load(copied_world.memory_path).dim == 16


def test_a_memory_of_another_clap_is_made_again(copied_world, embedded):
    embed_here(copied_world)
    memory = build_memory(copied_world)
    SantaMemory(
        memory.embeddings_NC, memory.offsets_K1, memory.centroids_KC, {"clap": "transformers CLAP 0 (16-d)"}
    ).save(copied_world.memory_path)

    ensure_training_data(copied_world)

    made_with = SantaMemory.load(copied_world.memory_path).provenance["clap"]
    assert made_with == str(load_clap(copied_world.clap_ref).identity)


def test_a_run_without_santa_needs_no_memory(copied_world, embedded):
    embed_here(copied_world)

    ensure_training_data(copied_world.replace(santa={"enabled": False}))

    assert not Path(copied_world.memory_path).exists()
