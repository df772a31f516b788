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


def test_a_table_is_known_by_its_files_name_or_by_its_own(tmp_path):
    write(tmp_path, "My Captions.csv.gz", "x")
    write(tmp_path, "parts/a.parquet", "x")
    write(tmp_path, "parts/b.parquet", "x")
    write(tmp_path, "parts/notes.txt", "x")

    inputs = planned(
        {"source": "table", "path": f"{tmp_path}/My Captions.csv.gz", "split": "val", "splits": ["val"]},
        {"source": "table", "path": f"{tmp_path}/parts", "name": "mine"},
    )

    assert [(one.source.name, one.path.rpartition("/")[2], one.split) for one in inputs] == [
        ("my_captions", "My Captions.csv.gz", "val"),
        ("mine", "a.parquet", "train"),
        ("mine", "b.parquet", "train"),
    ]
    with pytest.raises(DataError, match=r"holds no table: no name in it ends in \.csv, "):
        planned({"source": "table", "path": str(write(tmp_path, "none/notes.txt", "x").parent)})


@pytest.mark.parametrize(
    ("names", "other"), [(("clotho",), "a published source"), (("a", "a"), "two tables")]
)
def test_a_tables_name_is_its_own(tmp_path, names, other):
    entries = [
        {"source": "table", "path": str(write(tmp_path, f"{n}.csv", "x")), "name": name}
        for n, name in enumerate(names)
    ]

    with pytest.raises(ConfigError, match=f"{names[0]} is the name of {other}; give the table a name"):
        planned(*entries)


def test_keys_of_a_table_are_refused_for_a_published_source(tmp_path):
    with pytest.raises(ValueError, match="columns is for source: table, clotho has its published columns"):
        planned({"source": "clotho", "path": str(tmp_path), "columns": {"text": "x"}})


@pytest.mark.parametrize(
    ("source", "name", "header", "message"),
    [
        ("audiocaps", "train.csv", "a,b", "train.csv has no column "),
        ("wavcaps_bbc", "bbc_final.json", "{}", "bbc_final.json holds no JSON list 'data'"),
        ("clotho_aqa", "clotho_aqa_train.csv", "file_name,QuestionText,answer", "needs Clotho's captions"),
        ("table", "mine.csv", "a,b", "mine.csv has no column 'text' or 'caption'"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_found_at_its_start(tmp_path, source, name, header, message):
    write(tmp_path, name, f"{header}\n")
    (one,) = planned({"source": source, "path": f"{tmp_path}/{name}"})

    with pytest.raises(DataError, match=message):
        one.check_start()


def test_of_an_enormous_file_only_the_start_is_checked(tmp_path):
    path = write(tmp_path, "all.json", "[" + '{"id": 1, "answer": "x"},' * 400_000)
    (one,) = planned({"source": "openaqa", "path": str(path), "split": "train"})

    one.check_start()  # cut off at its end, which is not read
