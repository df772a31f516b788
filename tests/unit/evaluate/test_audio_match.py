"""Samples find their audio by published names, in any layout and any audio format."""

import unicodedata

import pytest

from mats_ray.data.audio_files import AudioObject
from mats_ray.errors import DataError
from mats_ray.evaluate.audio_match import match_audio
from mats_ray.evaluate.benchmark import Sample


def found(names, *paths):
    samples = [
        Sample(id=str(n), audio=(name,) if isinstance(name, str) else name, references=("x",))
        for n, name in enumerate(names)
    ]
    files = [AudioObject(path=path, size=1, etag="") for path in paths]
    matches = match_audio(samples, files, where="clips")
    return {one: matches.objects[one].path for one in matches.objects}, list(matches.ambiguous)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("1-100032-A-0.wav", "/a/audio/1/1-100032-A-0.wav"),
        ("1-100032-A-0.wav", "s3://bucket/esc/1-100032-A-0.flac"),  # another format
        ("-0NjhhwNY58", "/a/-0NjhhwNY58.m4a"),  # published without an extension
        ("Distorted AM Radio noise.wav", "/a/Distorted AM Radio noise.wav"),
        ("a name. with dots..wav", "/a/a name. with dots..wav"),
        ("blues.00000.wav", "/genres/blues/blues.00000.au"),
        ("WAVE #7?.wav", "/a/WAVE #7?.wav"),
    ],
)
def test_a_name_fits_a_file_whatever_its_folder_and_audio_extension(name, path):
    assert found([name], path, "/a/other.wav") == ({"0": path}, [])


def test_a_name_that_ends_like_an_extension_is_compared_whole():
    objects, _ = found(["take.7"], "/a/take.8.wav", "/a/take.7.wav")

    assert objects == {"0": "/a/take.7.wav"}


def test_accents_fit_whichever_way_they_are_written():
    name = "Café.wav"

    objects, _ = found([name], f"/a/{unicodedata.normalize('NFD', name)}")

    assert list(objects) == ["0"]


def test_the_first_name_that_fits_is_taken():
    objects, _ = found([("Yabc", "abc_30")], "/a/abc_30.wav", "/a/abc_40.wav")

    assert objects == {"0": "/a/abc_30.wav"}


def test_folders_of_a_name_tell_two_files_apart():
    names = ["sound_QA_clotho/7.wav", "music_QA_caps/7.wav"]

    objects, ambiguous = found(names, "/chat/music_QA_caps/7.wav", "/chat/sound_QA_clotho/7.wav")

    assert objects == {"0": "/chat/sound_QA_clotho/7.wav", "1": "/chat/music_QA_caps/7.wav"}
    assert ambiguous == []


def test_of_two_formats_the_published_one_is_taken():
    objects, ambiguous = found(["a.wav"], "/x/a.flac", "/x/a.wav")

    assert (objects, ambiguous) == ({"0": "/x/a.wav"}, [])


def test_a_name_that_fits_two_files_fits_none_and_is_counted():
    objects, ambiguous = found(["a.wav", "b.wav"], "/x/a.wav", "/y/a.wav", "/x/b.wav")

    assert (objects, ambiguous) == ({"1": "/x/b.wav"}, ["0"])


def test_several_questions_share_a_file():
    objects, _ = found(["a.wav", "a.wav"], "/x/a.wav")

    assert objects == {"0": "/x/a.wav", "1": "/x/a.wav"}


def test_a_folder_of_other_audio_is_refused_with_a_name_of_each():
    with pytest.raises(DataError, match=r"clips has audio of none of the 2 samples.*a\.wav.*z\.wav"):
        found(["a.wav", "b.wav"], "/x/z.wav")
