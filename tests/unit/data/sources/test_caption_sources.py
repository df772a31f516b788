"""Captions: real files give the rows their authors count, written ones their traps."""

import json
from collections import Counter

import pytest

from mats_ray.data.annotations.csv_records import CONTINUES_ON_NEXT_LINE
from mats_ray.data.annotations.reader import AnnotationFile
from mats_ray.data.sources.clotho import license_name
from mats_ray.data.sources.registry import SOURCES, clip_of
from mats_ray.errors import DataError
from tests.unit.data.sources.reading import Read, annotations, write

REAL = [
    ("audiocaps", "audiocaps_train.csv", 49_838),
    ("audiocaps", "audiocaps_val.csv", 2_475),
    ("audiocaps", "audiocaps_test.csv", 4_875),
    ("clotho", "clotho_train.csv", 3_839 * 5),
    ("clotho", "clotho_val.csv", 1_045 * 5),
    ("clotho", "clotho_test.csv", 1_045 * 5),
    ("musiccaps", "musiccaps-public.csv", 5_521),
    ("wavcaps_soundbible", "wavcaps_sb_final.json", 1_232),
    ("magnatagatune", "EvalMusicQA.json", 2 * 560),
]


@pytest.mark.shared
@pytest.mark.parametrize(("source", "name", "num_rows"), REAL, ids=str)
def test_a_real_file_gives_the_rows_its_authors_count(source, name, num_rows):
    read = Read(source, annotations(name))

    assert len(read.rows) == num_rows
    assert read.rejected == []
    assert len(set(read.keys)) == num_rows
    assert all(text.strip() for text in read.texts)


@pytest.mark.shared
def test_real_musiccaps_splits_by_audiosets_evaluation_clips():
    splits = [row.split for row in Read("musiccaps", annotations("musiccaps-public.csv")).rows]

    assert (splits.count("test"), splits.count("train")) == (2_858, 2_663)


def test_audiocaps_has_crlf_and_ids_that_start_with_a_dash(tmp_path):
    path = write(
        tmp_path,
        "train.csv",
        "audiocap_id,youtube_id,start_time,caption\r\n"
        '91139,-1nicOVtvkQ,130,"Wind, insects"\r\n5,x,0,\r\n6,z,1,rain\r\n7,y,3\r\n',
    )

    read = Read("audiocaps", path)

    assert (read.keys, read.texts) == (["91139", "6"], ["Wind, insects", "rain"])
    assert read.rejected == [(3, "empty caption"), (5, "3 columns instead of 4")]


def test_the_five_captions_of_a_clip_of_audiocaps_share_its_name(tmp_path):
    path = write(
        tmp_path,
        "val.csv",
        "audiocap_id,youtube_id,start_time,caption\r\n97151,-fY,130,Ducks\r\n97152,-fY,130,Water\r\n3,b,0,Rain\r\n",
    )

    entries = list(SOURCES["audiocaps"].read(AnnotationFile(str(path), "val")))

    assert [row.key for row in entries] == ["-fY_130/97151", "-fY_130/97152", "b_0/3"]


@pytest.mark.shared
def test_every_clip_of_the_real_validation_captions_has_five():
    file = AnnotationFile(str(annotations("audiocaps_val.csv")), "val")
    clips = Counter(
        clip_of(f"audiocaps/val/{row.key}", "audiocaps") for row in SOURCES["audiocaps"].read(file)
    )

    assert (len(clips), set(clips.values())) == (495, {5})


def test_clotho_names_may_have_spaces_dots_and_other_letters(tmp_path):
    header = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
    path = write(tmp_path, "clotho_captions_development.csv", header + ' Café..wav,a,"b, c",d,,e\n')

    read = Read("clotho", path)

    assert read.keys == ["Café..wav/1", "Café..wav/2", "Café..wav/3", "Café..wav/5"]
    assert read.texts == ["a", "b, c", "d", "e"]
    assert read.rejected == [(2, "empty caption_4")]


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_clothos_metadata_is_latin1_and_holds_each_clips_licence(tmp_path, delimiter):
    columns = [
        "file_name",
        "keywords",
        "sound_id",
        "sound_link",
        "start_end_samples",
        "manufacturer",
        "license",
    ]
    url = "http://creativecommons.org/licenses/by-nc/3.0/"
    cells = ["Café.wav", "rain", "1", "x", "[0, 1]" if delimiter == ";" else "0", "Ana", url]
    metadata = f"{delimiter.join(columns)}\n{delimiter.join(cells)}\n".encode("latin-1")
    header = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
    captions = write(
        tmp_path, "clotho_captions_development.csv", header + "Café.wav,a,b,c,d,e\nb.wav,a,b,c,d,e\n"
    )

    read = Read("clotho", captions, metadata=write(tmp_path, "m.csv", metadata))

    assert [row.license for row in read.rows[4:6]] == ["CC BY-NC 3.0", ""]


def test_licences_are_named_as_people_do():
    assert license_name("http://creativecommons.org/publicdomain/zero/1.0/") == "CC0 1.0"
    assert license_name("Sampling+") == "Sampling+"


def test_musiccaps_captions_have_line_breaks(tmp_path):
    header = (
        "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,"
        "is_audioset_eval\r\n"
    )
    aspects = '"[\'low quality\', ""don\'t""]"'
    path = write(
        tmp_path,
        "musiccaps-public.csv",
        header + f'-0Gj,30,40,"/m/01,/m/02",{aspects},"A song.\nIt is sad.",4,False,True\r\n'
        'abc,0,10,/m/01,not a list,"Drums.",4,False,False\r\n',
    )

    captions, labels = Read("musiccaps", path), Read("musiccaps_aspects", path)

    assert captions.texts == ["A song.\nIt is sad.", "Drums."]
    assert [(row.key, row.split) for row in captions.rows] == [("-0Gj_30", "test"), ("abc_0", "train")]
    assert labels.labels == [("low quality", "don't")]
    assert labels.rejected == [(4, "aspect_list is not a list of strings")]


def wavcaps(*items):
    return json.dumps({"num_captions_per_audio": 1, "data": list(items)})


def test_wavcaps_leaves_out_what_the_blacklist_names(tmp_path):
    path = write(
        tmp_path,
        "as_final.json",
        wavcaps(
            {"id": "Yabc.wav", "caption": "A dog barks.", "duration": 10},
            {"id": "Y-ef.wav", "caption": "Rain falls."},
            {"id": "Yno.wav", "caption": " "},
            {"id": "Ynone.wav"},
        ),
    )
    blacklist = write(tmp_path, "b.json", json.dumps({"AudioSet": ["Yabc.wav"], "FreeSound": ["1"]}))

    read = Read("wavcaps_audioset", path, blacklist=blacklist)

    assert read.keys == ["Y-ef.wav"]
    assert read.dropped == {"blacklist": 1}
    assert read.rejected == [(3, "empty caption"), (4, "no caption or no id")]


def test_wavcaps_parts_that_overlap_with_tests_are_not_read_without_a_blacklist(tmp_path):
    path = write(tmp_path, "fsd_final.json", wavcaps({"id": "12", "caption": "Rain."}))

    with pytest.raises(DataError, match=r"needs WavCaps' blacklists .*companions: {blacklist: PATH}"):
        Read("wavcaps_freesound", path)
    with pytest.raises(DataError, match="is no blacklist of WavCaps"):
        Read("wavcaps_freesound", path, blacklist=write(tmp_path, "b.json", "[]"))
    assert Read("wavcaps_freesound", path, blacklist="none").keys == ["12"]
    assert Read("wavcaps_bbc", path).keys == ["12"]


def test_macs_has_several_annotations_per_file(tmp_path):
    path = write(
        tmp_path,
        "MACS.yaml",
        "files:\n- filename: airport-0.wav\n  annotations:\n"
        "  - {annotator_id: 12, sentence: People talk, tags: [adults_talking, footsteps]}\n"
        "  - {annotator_id: 13, sentence: '', tags: []}\n  - {annotator_id: 14, sentence: A hall.}\n"
        "- filename: b.wav\n",
    )

    read = Read("macs", path)

    assert (read.keys, read.texts) == (["airport-0.wav/1", "airport-0.wav/3"], ["People talk", "A hall."])
    assert read.rejected == [(1, "annotation 2 has no sentence"), (2, "no filename or no annotations")]


def test_song_describer_is_read_by_caption_id(tmp_path):
    path = write(
        tmp_path,
        "song_describer.csv",
        "caption_id,track_id,caption,is_valid_subset,familiarity,artist_id,album_id,path,duration\n"
        '1,77,"A slow, sad song",True,0,1,2,77/77.2min.mp3,120\n2,77,,True,0,1,2,x,1\n',
    )

    read = Read("song_describer", path)

    assert (read.keys, read.texts) == (["77/1"], ["A slow, sad song"])
    assert read.rejected == [(3, "empty caption or caption_id")]


def test_magnatagatunes_captions_are_the_descriptions_in_musicqa(tmp_path):
    def row(question, answer):
        talk = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        return {"audio_name": "a.mp3", "conversation": talk}

    rows = [row("Describe the audio", "A harp."), row("Is it fast?", "No.")]
    read = Read("magnatagatune", write(tmp_path, "FinetuneMusicQA.json", json.dumps(rows)))

    assert read.texts == ["A harp."]
    assert read.dropped == {"not a description": 1}


@pytest.mark.parametrize("yes", ["True", "true", "TRUE", "T", "1", "1.0", "yes"])
@pytest.mark.parametrize("no", ["False", "FALSE", "0", "no"])
def test_musiccaps_evaluation_clips_are_the_test_split_however_a_boolean_is_written(tmp_path, yes, no):
    rows = [
        f"a,0,\"['x']\",One,{yes}",
        f"b,0,\"['x']\",Two,{no}",
        "c,0,\"['x']\",Three,",
        "d,0,\"['x']\",Four,maybe",
    ]
    header = "ytid,start_s,aspect_list,caption,is_audioset_eval"
    path = write(tmp_path, "musiccaps-public.csv", "\n".join([header, *rows]) + "\n")

    for source in ("musiccaps", "musiccaps_aspects"):
        read = Read(source, path)
        assert [(row.key, row.split) for row in read.rows] == [("a_0", "test"), ("b_0", "train")]
        assert read.rejected == [
            (4, "is_audioset_eval is neither true nor false: ''"),
            (5, "is_audioset_eval is neither true nor false: 'maybe'"),
        ]


def test_aspects_printed_by_numpy_have_no_commas_and_are_labels_all_the_same(tmp_path):
    path = write(
        tmp_path,
        "musiccaps-public.csv",
        "ytid,start_s,aspect_list,caption,is_audioset_eval\n"
        "a,0,\"['low quality' 'noise'\n 'guitar']\",A song,False\n"
        "b,0,\"['low' 'noise', 'guitar']\",A song,False\nc,0,\"['a' ... 'z']\",A song,False\n",
    )

    read = Read("musiccaps_aspects", path)

    assert read.labels == [("low quality", "noise", "guitar")]
    assert [number for number, _ in read.rejected] == [4, 5]


def test_a_caption_on_two_lines_without_quotes_is_put_together(tmp_path):
    header = "audiocap_id,youtube_id,start_time,caption\n"
    rows = "11,a,30,a motor hums with muffled\ntalk behind\nit\n12,b,30,rain\n"

    read = Read("audiocaps2", write(tmp_path, "train.csv", header + rows))

    assert read.texts == ["a motor hums with muffled talk behind it", "rain"]
    assert read.rejected == []


def test_half_a_caption_is_never_a_caption(tmp_path):
    header = "audiocap_id,youtube_id,start_time,caption\n"
    # it is unclear whether the comma in "talk, then rain" belongs to the text
    rows = "11,a,30,a motor hums with\ntalk, then rain\n12,b,30,rain\n"

    read = Read("audiocaps2", write(tmp_path, "train.csv", header + rows))

    assert read.texts == ["rain"]
    assert read.rejected == [(2, CONTINUES_ON_NEXT_LINE), (3, "2 columns instead of 4")]


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "NULL", "N/A", "<NA>", "#N/A"])
def test_a_word_for_a_missing_caption_is_no_caption(tmp_path, word):
    rows = f"audiocap_id,youtube_id,start_time,caption\n1,a,0,{word}\n2,b,0,rain falls\n"
    audiocaps = write(tmp_path, "train.csv", rows)
    header = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
    clotho = write(tmp_path, "clotho_captions_development.csv", header + f"x.wav,a,{word},b,c,d\n")
    items = {"id": "1", "caption": word}, {"id": "2", "caption": None}, {"id": "3", "caption": "rain"}
    soundbible = write(tmp_path, "sb_final.json", wavcaps(*items))

    assert Read("audiocaps", audiocaps).texts == ["rain falls"]
    assert Read("clotho", clotho).texts == ["a", "b", "c", "d"]
    assert Read("wavcaps_soundbible", soundbible).texts == ["rain"]
