"""Classification sets: labels with commas, machine ids, header-less files, names that are the annotation."""

import json

import pytest

from mats_ray.errors import DataError
from tests.unit.data.sources.reading import Read, annotations, write

NAMES = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05x_td,"Air horn, truck horn"\n'


@pytest.mark.shared
def test_real_vggsound_rows_have_a_label_each_of_the_published_table():
    known = {tuple(labels) for labels in _labels_of_table()}

    read = Read("vggsound", annotations("vggsound_test_head.csv"))

    assert (len(read.rows), read.rejected) == (5_000, [])
    assert set(read.labels) <= known
    assert any("," in label for (label,) in read.labels)


def _labels_of_table():
    import csv

    with annotations("vggsound_labels.csv").open(newline="") as stream:
        return [[row[0]] for row in csv.reader(stream)]


@pytest.mark.shared
def test_real_musiccaps_aspects_are_lists():
    read = Read("musiccaps_aspects", annotations("musiccaps-public.csv"))

    assert (len(read.rows), read.rejected) == (5_521, [])


@pytest.mark.shared
def test_the_real_ontology_names_audiosets_labels(tmp_path):
    path = write(
        tmp_path, "eval_segments.csv", '# a\n# b\n# YTID, start\n-xy, 30.0, 40.0, "/m/05x_td,/m/09x0r"\n'
    )

    read = Read("audioset", path, names=annotations("audioset_ontology.json"))

    assert read.labels == [("Air horn, truck horn", "Speech")]


def test_weak_audioset_has_comments_and_a_space_after_each_comma(tmp_path):
    path = write(
        tmp_path,
        "balanced_train_segments.csv",
        "# Segments csv created Sun Mar  5\n# num_ytids=2\n"
        "# YTID, start_seconds, end_seconds, positive_labels\n"
        '--4gqARaEJE, 0.000, 10.000, "/m/05x_td,/m/09x0r"\nabc, 1.0, 2.0, "/m/xx"\nabd, 1.0, 2.0, ""\n',
    )

    read = Read("audioset", path, names=write(tmp_path, "class_labels_indices.csv", NAMES))

    assert (read.keys, read.labels) == (["--4gqARaEJE_0.000"], [("Air horn, truck horn", "Speech")])
    assert read.rejected == [(5, "unknown label '/m/xx'"), (6, "no labels")]


def test_audioset_needs_the_names_of_its_labels(tmp_path):
    with pytest.raises(DataError, match="needs AudioSet's label names"):
        Read("audioset", write(tmp_path, "eval_segments.csv", "a, 0, 1, /m/1\n"))
    with pytest.raises(DataError, match=r"is not AudioSet's ontology"):
        Read("audioset", write(tmp_path, "x.csv", "a, 0, 1, /m/1\n"), names=write(tmp_path, "o.json", "[1]"))


def test_strong_audioset_puts_the_events_of_a_segment_together(tmp_path):
    names = write(tmp_path, "mid_to_display_name.tsv", "/m/1\tBell\n/m/2\tDog, puppy\n")
    path = write(
        tmp_path,
        "audioset_train_strong.tsv",
        "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
        "b0RF_30000\t0.1\t0.2\t/m/2\nb0RF_30000\t0.3\t0.4\t/m/1\nb0RF_30000\t0.5\t0.6\t/m/2\n"
        "c_0\t0\t1\t/m/1\nb0RF_30000\t1\t2\t/m/1\n",
    )

    read = Read("audioset_strong", path, names=names)

    assert (read.keys, read.labels) == (["b0RF_30000", "c_0"], [("Dog, puppy", "Bell"), ("Bell",)])
    assert read.rejected == []


def test_fsd50k_has_a_split_column_for_validation(tmp_path):
    dev = write(
        tmp_path,
        "dev.csv",
        'fname,labels,mids,split\n64760,"Electric_guitar,Guitar","/m/02sgy,/m/0342h",train\n1,Bark,/m/1,val\n2,,,train\n',
    )

    read = Read("fsd50k", dev)

    assert read.labels == [("Electric_guitar", "Guitar"), ("Bark",)]
    assert [row.split for row in read.rows] == ["train", "val"]
    assert read.rejected == [(4, "empty fname or labels")]
    assert Read("fsd50k", write(tmp_path, "eval.csv", 'fname,labels,mids\n3,"A,B",x\n')).rows[0].split == ""


def test_vggsound_is_header_less_in_two_formats(tmp_path):
    long = write(
        tmp_path, "vggsound.csv", 'zzq,55,train horning,test\n-a,3,"race car, auto racing",train\nx,y\n'
    )

    read = Read("vggsound", long)

    assert read.keys == ["zzq_000055", "-a_000003"]
    assert read.labels == [("train horning",), ("race car, auto racing",)]
    assert [row.split for row in read.rows] == ["test", "train"]
    assert read.rejected == [(3, "neither id, start, label, split nor file, label")]
    short = Read("vggsound", write(tmp_path, "test.csv", 'zzq_000055.mp4,"horn, car"\n'))
    assert (short.keys, short.labels) == (["zzq_000055"], [("horn, car",)])


def test_esc50_and_urbansound_have_one_label_each(tmp_path):
    esc = write(
        tmp_path,
        "esc50.csv",
        "filename,fold,target,category,esc10,src_file,take\n1-1.wav,1,0,crying_baby,True,1,A\n2.wav,1,0,,x,1,A\n",
    )
    header = "slice_file_name,fsID,start,end,salience,fold,classID"
    for name in ("class", "class_name"):
        urban = write(
            tmp_path, f"{name}.csv", f"{header},{name}\n10-3.wav,1,0,1,1,5,3,dog_bark\nx.wav,1,0,1,1,5,3,\n"
        )
        read = Read("urbansound8k", urban)
        assert (read.labels, read.rejected) == ([("dog_bark",)], [(3, "no class or no slice_file_name")])

    assert Read("esc50", esc).labels == [("crying_baby",)]
    assert Read("esc50", esc).rejected == [(3, "empty filename or category")]


def test_tut_tables_have_no_header_and_scenes_with_slashes(tmp_path):
    path = write(
        tmp_path,
        "meta.txt",
        "audio/b020_90_100.wav\tcafe/restaurant\tb020\naudio/x.wav\tbeach\naudio/y.wav\n",
    )

    read = Read("tut2017", path)

    assert (read.keys, read.labels) == (["b020_90_100.wav", "x.wav"], [("cafe/restaurant",), ("beach",)])
    assert read.rejected == [(3, "no scene")]


def test_dcase_classes_with_commas_are_read_from_the_machine_ids(tmp_path):
    path = write(
        tmp_path,
        "training_set.csv",
        'abc,10.0,20.0,"Train horn,Air horn, truck '
        'horn,Train","/m/0284vy3,/m/05x_td,/m/07jdr"\nd,0,1,"X","/m/x"\n',
    )

    read = Read("dcase2017_task4", path)

    assert read.labels == [("Train horn", "Air horn, truck horn", "Train")]
    assert read.rejected == [(2, "unknown label '/m/x'")]


def test_vocalsounds_class_is_in_the_file_name(tmp_path):
    data = {
        "data": [{"wav": "/d/f0003_0_throatclearing.wav", "labels": "/m/0dl9sf8"}, {"wav": "f_0_yawn.wav"}, 3]
    }

    read = Read("vocalsound", write(tmp_path, "tr.json", json.dumps(data)))

    assert read.labels == [("throat clearing",)]
    assert [number for number, _ in read.rejected] == [2, 3]


@pytest.mark.parametrize(
    ("source", "name", "label"),
    [
        ("gtzan", "genres/hiphop/hiphop.00042.wav", "hip hop"),
        ("beijing_opera", "205972__ajaysm__daluo-01.wav", "Large gong"),
        ("sesa", "train/gunshot_004.wav", "gunshot"),
        ("crema_d", "1001_DFA_ANG_XX.wav", "angry"),
        ("ravdess", "Actor_12/03-01-06-01-02-01-12.wav", "fearful"),
    ],
)
def test_names_of_audio_files_are_the_annotation(tmp_path, source, name, label):
    write(tmp_path, f"audio/{name}", b"")
    write(tmp_path, "audio/README.txt", "not audio")
    write(tmp_path, "audio/strange_one.wav.wav", b"")

    read = Read(source, tmp_path / "audio")

    assert (read.keys, read.labels) == ([name], [(label,)])
    assert read.dropped == {"no audio file": 1}
    assert len(read.rejected) == 1
    listed = Read(source, write(tmp_path, "names.txt", f"{name}\n"))
    assert listed.rows == read.rows or listed.keys == read.keys


def test_names_in_a_test_folder_are_the_test_split(tmp_path):
    write(tmp_path, "test/siren_1.wav", b"")

    assert Read("sesa", tmp_path).rows[0].split == "test"


def test_nsynth_is_one_mapping_of_notes(tmp_path):
    notes = {
        "bass_synthetic_033-022-050": {
            "instrument_family_str": "bass",
            "instrument_source_str": "synthetic",
            "qualities_str": ["dark", "long_release"],
        },
        "x": {},
    }

    read = Read("nsynth", write(tmp_path, "examples.json", json.dumps(notes, indent=2)))

    assert read.labels == [("synthetic bass", "dark", "long_release")]
    assert read.rejected == [(2, "no instrument_family_str")]


def test_events_of_a_segment_that_stand_apart_all_count(tmp_path):
    names = write(tmp_path, "mid_to_display_name.tsv", "/m/1\tBell\n/m/2\tDog\n/m/3\tRain\n")
    header = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
    rows = "a\t0\t1\t/m/1\nb\t0\t1\t/m/2\na\t1\t2\t/m/3\n"

    read = Read("audioset_strong", write(tmp_path, "audioset_train_strong.tsv", header + rows), names=names)

    assert read.labels == [("Bell", "Rain"), ("Dog",)]


@pytest.mark.parametrize(
    ("folder", "split"), [("nsynth-train", ""), ("nsynth-valid", "val"), ("nsynth-test", "test")]
)
def test_nsynths_splits_are_its_folders_all_with_a_file_of_one_name(tmp_path, folder, split):
    note = json.dumps({"n": {"instrument_family_str": "bass", "instrument_source_str": "acoustic"}})

    (row,) = Read("nsynth", write(tmp_path, f"{folder}/examples.json", note)).rows

    assert row.split == split


@pytest.mark.parametrize("folder", ["test", "Test", "testing", "EVAL", "sesa_test", "evaluation"])
def test_audio_in_a_folder_of_a_test_split_is_not_trained_on(tmp_path, folder):
    rows = f"train/siren_1.wav\n{folder}/siren_2.wav\nsiren_contest/siren_3.wav\n"

    assert [row.split for row in Read("sesa", write(tmp_path, "names.txt", rows)).rows] == ["", "test", ""]
