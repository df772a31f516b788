"""Input files: found by published names, with their companions; errors are one clear line."""

import pytest

from mats_ray.config.data import PrepareConfig
from mats_ray.data.prepare.input_files import find_input_files
from mats_ray.errors import ConfigError, DataError
from tests.unit.data.sources.reading import write


def planned(*sources):
    return find_input_files(PrepareConfig.model_validate({"sources": list(sources)}))


def test_a_folder_gives_its_published_files_with_their_splits_and_what_lies_beside(tmp_path):
    for name in ("a/clotho_captions_development.csv", "a/clotho_captions_evaluation.csv", "a/notes.csv"):
        write(tmp_path, name, "x\n")
    write(tmp_path, "a/clotho_metadata_development.csv", "x\n")

    inputs = planned({"source": "clotho", "path": str(tmp_path)})

    assert [(input_file.path, input_file.split, input_file.num_bytes) for input_file in inputs] == [
        (f"{tmp_path}/a/clotho_captions_development.csv", "train", 2),
        (f"{tmp_path}/a/clotho_captions_evaluation.csv", "test", 2),
    ]
    assert inputs[0].companions == {"metadata": (f"{tmp_path}/a/clotho_metadata_development.csv",)}
    assert inputs[0].splits == ("train",)


def test_wavcaps_blacklists_below_the_folder_are_found(tmp_path):
    write(tmp_path, "json_files/AudioSet_SL/as_final.json", "{}")
    names = [f"json_files/blacklist/blacklist_exclude_{one}.json" for one in ("all_ac", "test_ac")]
    for name in names:
        write(tmp_path, name, "{}")

    (input_file,) = planned({"source": "wavcaps_audioset", "path": str(tmp_path)})

    assert input_file.companions["blacklist"] == tuple(f"{tmp_path}/{name}" for name in names)


def test_a_file_of_any_name_is_accepted_with_a_configured_split(tmp_path):
    path = write(tmp_path, "mine.csv", "x\n")

    (input_file,) = planned({"source": "audiocaps", "path": str(path), "split": "val", "splits": ["val"]})

    assert (input_file.split, input_file.splits, input_file.copies) == ("val", ("val",), 1)
    with pytest.raises(
        ConfigError, match=r"mine\.csv: the name does not tell a split of audiocaps; add split:"
    ):
        planned({"source": "audiocaps", "path": str(path)})


def test_a_folder_of_audio_is_one_unit(tmp_path):
    write(tmp_path, "genres/pop/pop.00001.wav", b"")

    (input_file,) = planned({"source": "gtzan", "path": str(tmp_path)})

    assert (input_file.path, input_file.split, input_file.copies) == (str(tmp_path), "train", 20)


def test_units_are_named_alike_each_time_and_differently_from_each_other(tmp_path):
    for name in ("clotho_captions_development.csv", "clotho_captions_validation.csv"):
        write(tmp_path, name, "x\n")
    entry = {"source": "clotho", "path": str(tmp_path)}

    assert [input_file.stem for input_file in planned(entry)] == [
        input_file.stem for input_file in planned(entry)
    ]
    assert len({input_file.stem for input_file in planned(entry)}) == 2
    with pytest.raises(ConfigError, match="twice for clotho"):
        planned(entry, entry)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match="names nothing to read"):
        planned()
    with pytest.raises(ConfigError, match=r"no source is called 'clohto'; there are .*clotho,"):
        planned({"source": "clohto", "path": "x"})
    with pytest.raises(DataError, match=r"nothing at .*none"):
        planned({"source": "clotho", "path": str(tmp_path / "none")})
    write(tmp_path, "a/train.csv", "x")
    with pytest.raises(DataError, match=r"holds no file of clotho \(called clotho_captions_development.csv"):
        planned({"source": "clotho", "path": str(tmp_path)})
    write(tmp_path, "b/train.csv", "x")
    with pytest.raises(DataError, match=r"holds several files called train\.csv"):
        planned({"source": "audiocaps", "path": str(tmp_path)})
