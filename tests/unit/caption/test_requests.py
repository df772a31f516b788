"""Requests: files with their prompts, from every kind of source."""

import pytest

from mats_ray.caption.prompts import CAPTION, PromptRules
from mats_ray.caption.requests import RequestSource
from mats_ray.data.audio_files import AudioObject
from mats_ray.errors import DataError


def pairs(source):
    """Name and instruction of every pair of file and prompt."""
    found = []
    for block in source.blocks():
        paths = block.files["path"].to_pylist()
        for file, prompt in zip(block.plan.files(), block.plan.prompt_K, strict=True):
            found.append((paths[file].rpartition("/")[2], block.plan.prompts[prompt].instruction))
    return found


@pytest.fixture
def folder(tmp_path):
    for name in ("b.wav", "a.wav", "note.txt"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_a_folder_has_the_same_prompts_for_every_file(folder):
    source = RequestSource(str(folder), PromptRules(shared=["Dog?", "Rain?"]))

    assert pairs(source) == [(name, text) for name in ("a.wav", "b.wav") for text in ("Dog?", "Rain?")]
    assert source.left_out == "1 .txt"


def test_a_manifest_has_the_questions_of_its_rows(folder):
    (folder / "list.csv").write_text("path,question\nb.wav,Dog?\na.wav,\nb.wav,Rain?\n")

    source = RequestSource(str(folder / "list.csv"), PromptRules())

    assert pairs(source) == [("a.wav", CAPTION.instruction), ("b.wav", "Dog?"), ("b.wav", "Rain?")]
    assert source.left_out == ""


def test_listed_files_are_sorted_and_may_have_questions_of_their_own():
    files = [AudioObject(path=f"/clips/{name}.wav", size=1, etag="") for name in "ba"]

    source = RequestSource(files, PromptRules(), questions={"/clips/a.wav": ["Dog?"]})

    assert pairs(source) == [("a.wav", "Dog?"), ("b.wav", CAPTION.instruction)]


def test_questions_about_other_files_are_refused(folder):
    questions = {"/clips/z.wav": ["Dog?"]}
    expected = r"^1 paths with questions are not among the audio: first /clips/z\.wav$"

    with pytest.raises(DataError, match=expected):
        RequestSource([], PromptRules(), questions=questions)
    with pytest.raises(DataError, match=expected):
        list(RequestSource(str(folder), PromptRules(), questions=questions).blocks())
