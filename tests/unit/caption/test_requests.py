"""Requests: files with their prompts, from every kind of source."""

import pytest

from mats_ray.caption.prompts import CAPTION, PromptRules
from mats_ray.caption.requests import RequestSource
from mats_ray.data import manifest
from mats_ray.data.audio_files import AudioObject
from mats_ray.errors import ConfigError, DataError


def pairs(source):
    """Name and instruction of every pair of file and prompt."""
    return [pair for block in source.blocks() for pair in pairs_of(block)]


def pairs_of(block):
    """Name and instruction of every pair of a block."""
    names = [path.rpartition("/")[2] for path in block.files["path"].to_pylist()]
    found = zip(block.plan.files(), block.plan.prompt_K, strict=True)
    return [(names[file], block.plan.prompts[prompt].instruction) for file, prompt in found]


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


def test_a_file_that_is_listed_twice_is_one_request():
    file = AudioObject(path="/clips/a.wav", size=1, etag="")

    assert pairs(RequestSource([file, file], PromptRules())) == [("a.wav", CAPTION.instruction)]


@pytest.mark.parametrize(
    ("later", "rules", "added"),
    [
        ("a.wav,", {}, []),
        ("a.wav, Rain? ", {}, []),
        ("a.wav,Dog?", {"shared": ["Dog?"]}, []),
        ("a.wav,", {"shared": ["Dog?"]}, []),
        ("a.wav,", {"labels": ["dog", "rain"]}, []),
        ("a.wav,Dog?", {"shared": ["Bell?"]}, ["Dog?"]),
        ("a.wav,Dog?", {"caption": True}, ["Dog?"]),
    ],
)
def test_a_path_of_an_earlier_block_has_only_new_prompts(folder, monkeypatch, later, rules, added):
    monkeypatch.setattr(manifest, "FIRST_BLOCK", 2)
    (folder / "list.csv").write_text(f"path,question\na.wav,\na.wav,Rain?\nb.wav,\n{later}\n")
    blocks = list(RequestSource(str(folder / "list.csv"), PromptRules(**rules)).blocks())
    monkeypatch.setattr(manifest, "FIRST_BLOCK", 100)
    whole = RequestSource(str(folder / "list.csv"), PromptRules(**rules))

    again = [pair for block in blocks[1:] for pair in pairs_of(block) if pair[0] == "a.wav"]
    assert again == [("a.wav", text) for text in added]
    assert sorted(pair for block in blocks for pair in pairs_of(block)) == sorted(pairs(whole))


def test_questions_by_path_are_not_added_twice(folder, monkeypatch):
    monkeypatch.setattr(manifest, "FIRST_BLOCK", 1)
    (folder / "list.csv").write_text("path,question\na.wav,Rain?\na.wav,Dog?\na.wav,Bell?\n")

    source = RequestSource(
        str(folder / "list.csv"), PromptRules(), questions={str(folder / "a.wav"): ["Dog?"]}
    )

    assert [text for _, text in pairs(source)] == ["Rain?", "Dog?", "Bell?"]


@pytest.mark.parametrize("audio", ["/clips", "list.csv", "gs://bucket/in", "s3://bucket/list.csv", []])
def test_prefixes_are_of_a_bucket(audio):
    with pytest.raises(ConfigError, match=r"^caption\.prefixes are of a bucket's keys"):
        RequestSource(audio, PromptRules(), prefixes=["a/"])
