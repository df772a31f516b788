"""Samples to listen to: a card for each, with a player where the page can reach the audio."""

import os
from collections.abc import Sequence
from urllib.parse import quote

from mats_ray.evaluate.report.markup import definitions, items, mark, number, text
from mats_ray.evaluate.report.samples import ShownSample, ShownSamples
from mats_ray.storage import is_remote, locate, stat

_TEXT_CHARACTERS = 400
_NAME_CHARACTERS = 120
_MOST_ENTRIES = 12


def cards_html(shown: ShownSamples, folder: str, *, prompt: str, num_each: int) -> str:
    """Show samples under a heading for each kind.

    Args:
        shown: Of one benchmark.
        folder: Of the page; local audio is linked from there.
        prompt: What need not be repeated for every sample.
        num_each: Samples of a kind.
    """
    right, wrong = ("Right", "Wrong") if shown.are_right_or_wrong else ("Highest scores", "Lowest scores")
    kinds = ((wrong, shown.worst), (right, shown.best), ("Spread evenly", shown.unscored))
    html = ""
    for heading, samples in kinds:
        if samples:
            cards = [
                _card(one, folder, prompt, is_verdict=shown.are_right_or_wrong) for one in samples[:num_each]
            ]
            html += f'<h4>{heading}</h4>\n<div class="pair">{"".join(cards)}</div>\n'
    return html or "<p>No sample was answered.</p>\n"


def audio_url(audio: str | None, folder: str) -> str:
    """Return the URL of an audio file relative to a page's folder; empty where the page cannot reach it.

    Args:
        audio: Path as the evaluation had it.
        folder: Of the page.
    """
    if not audio or is_remote(audio) or is_remote(folder) or stat(audio) is None:
        return ""
    return quote(os.path.relpath(locate(audio)[1], locate(folder)[1]))


def _card(sample: ShownSample, folder: str, prompt: str, *, is_verdict: bool) -> str:
    name = text(sample.id, most=_NAME_CHARACTERS)
    return (
        f"<article><h5>{name} {_verdict(sample, is_verdict=is_verdict)}</h5>\n"
        f"{_player(sample, folder)}{definitions(_facts(sample, prompt))}</article>\n"
    )


def _verdict(sample: ShownSample, *, is_verdict: bool) -> str:
    if sample.score is None:
        return ""
    return mark(good=sample.score == 1) if is_verdict else f'<span class="mark">{number(sample.score)}</span>'


def _player(sample: ShownSample, folder: str) -> str:
    """A player that loads nothing before it is started: a browser has only so many of them at work."""
    if url := audio_url(sample.audio, folder):
        name = text(f"Audio of {sample.id}", most=_NAME_CHARACTERS)
        return (
            f'<audio controls preload="none" src="{text(url, most=len(url))}" aria-label="{name}"></audio>\n'
        )
    path = text(sample.audio, most=_TEXT_CHARACTERS) if sample.audio else "none"
    return f'<p class="soft">Audio, not playable from here: <code>{path}</code></p>\n'


def _facts(sample: ShownSample, prompt: str) -> list[tuple[str, str]]:
    question = sample.question or (sample.prompt if sample.prompt != prompt else "")
    answer = text(sample.answer, most=_TEXT_CHARACTERS) if sample.answer.strip() else "<em>empty</em>"
    facts = [
        ("Question", text(question, most=_TEXT_CHARACTERS) if question else ""),
        ("Choices", _choices(sample.choices)),
        ("Reference" if len(sample.references) == 1 else "References", _entries(sample.references)),
        ("Answer", f"<strong>{answer}</strong>"),
        ("Taken as", "" if sample.prediction is None else text(sample.prediction) or "<em>no label</em>"),
        ("Category", text(", ".join(f"{name} {value}" for name, value in sample.categories.items()))),
    ]
    return [(term, meaning) for term, meaning in facts if meaning]


def _choices(choices: Sequence[str]) -> str:
    return " ".join(
        f'<span class="choice">{text(one, most=_NAME_CHARACTERS)}</span>' for one in choices[:_MOST_ENTRIES]
    )


def _entries(texts: Sequence[str]) -> str:
    if len(texts) == 1:
        return text(texts[0], most=_TEXT_CHARACTERS)
    rest = [f"and {len(texts) - _MOST_ENTRIES} more"] if len(texts) > _MOST_ENTRIES else []
    return items([*(text(one, most=_TEXT_CHARACTERS) for one in texts[:_MOST_ENTRIES]), *rest])
