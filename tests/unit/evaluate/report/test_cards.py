"""Cards: a player where the page reaches the audio, and whatever a file is called, the player plays it."""

from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from mats_ray.evaluate.report.cards import audio_url, cards_html
from mats_ray.evaluate.report.samples import ShownSample, ShownSamples
from tests.html import Page
from tests.unit.evaluate.report.results import PROMPT, sample


def shown(**changes):
    row = sample("clip", **changes)
    del row["status"]
    return ShownSample(**row)


def page_of(*samples, folder="out", num_each=10, verdicts=True, **kinds):
    kinds = kinds or {"worst": samples}
    return Page(
        cards_html(
            ShownSamples(are_right_or_wrong=verdicts, **kinds), folder, prompt=PROMPT, num_each=num_each
        )
    )


@pytest.mark.parametrize(
    "name", ["dog.wav", "a b#1?x=%20&é.wav", '">.wav', "javascript:alert(1).wav", "\N{DOG FACE}'.wav"]
)
def test_a_player_finds_its_file_from_the_folder_of_the_page(tmp_path, name):
    folder, audio = tmp_path / "out" / "eval", tmp_path / "out" / "eval" / name
    folder.mkdir(parents=True)
    audio.touch()

    page = page_of(shown(audio=str(audio)), folder=str(folder))

    (source,) = page.values("src")
    resolved = urlsplit(urljoin(f"{folder.as_uri()}/report.html", source))
    assert resolved.scheme == "file"
    assert Path(unquote(resolved.path)) == audio
    assert ("audio", "none") in [(tag, attributes.get("preload")) for tag, attributes in page.elements]


def test_audio_elsewhere_is_a_relative_path(tmp_path):
    audio = tmp_path / "audio" / "dog.wav"
    audio.parent.mkdir()
    audio.touch()

    assert audio_url(str(audio), str(tmp_path / "out" / "eval")) == "../../audio/dog.wav"


@pytest.mark.parametrize(
    ("audio", "folder"),
    [
        ("s3://bucket/dog.wav", "out"),
        ("/nowhere/dog.wav", "out"),
        (__file__, "s3://bucket/out"),
        (None, "out"),
    ],
)
def test_audio_that_the_page_cannot_reach_has_no_player_and_its_path(audio, folder):
    page = page_of(shown(audio=audio), folder=folder)

    assert page.values("src") == []
    assert f"not playable from here: {audio or 'none'}" in page.text


def test_a_card_shows_what_was_asked_expected_and_answered():
    page = page_of(
        shown(question="What barks?", choices=["dog", "cat"], references=["dog", "a dog"], score=0.0)
    )

    for part in ("clip", "What barks?", "cat", "a dog", "rain on a roof", "rain", "difficulty easy", "wrong"):
        assert part in page.text, part


def test_the_prompt_of_all_samples_is_not_repeated():
    assert PROMPT not in page_of(shown()).text
    assert "Another prompt" in page_of(shown(prompt="Another prompt")).text


def test_an_empty_answer_and_no_label_are_said():
    page = page_of(shown(answer=" ", prediction=""))

    assert "Answerempty" in page.text
    assert "Taken asno label" in page.text


def test_a_score_that_is_no_verdict_is_a_number():
    page = page_of(worst=[shown(score=0.25)], best=[shown(score=1.0)], verdicts=False)

    assert "0.250" in page.text
    assert "right" not in page.text
    assert page.text.index("Lowest scores") < page.text.index("Highest scores")


def test_no_more_than_asked_for_are_shown():
    page = page_of(worst=[shown()] * 5, best=[shown()] * 5, num_each=2)

    assert sum(tag == "article" for tag, _ in page.elements) == 4


def test_many_references_are_cut():
    page = page_of(shown(references=[f"caption {n}" for n in range(50)]))

    assert "caption 11" in page.text
    assert "caption 12" not in page.text
    assert "and 38 more" in page.text


def test_nothing_to_listen_to_is_said():
    assert "No sample was answered" in page_of(worst=[]).text
