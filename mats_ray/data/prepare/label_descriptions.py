"""Descriptions of labels by a chat model that the user runs, as in the paper (``mats describe``).

The result is a JSON Lines file for ``data.prepare.descriptions``, so that a preparation depends on no model.
No other module of this package calls an endpoint.
"""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mats_ray.data.prepare.label_sentences import readable_label
from mats_ray.errors import ConfigError, DataError
from mats_ray.progress import Progress

MAX_WORDS = 25
"""Longest description, in words: longer lines are text around the list."""
_NUMBERING = re.compile(r"^\s*(?:[-*]|\d+[.)])\s*")
_REQUEST = (
    "You describe sounds. Write {count} short and varied "
    "sentences, one per line and nothing else, each about audio "
    "in which this is what sounds: {label}. Each has fewer "
    "than 20 words, is a plain statement of subject, verb "
    "and object, and describes directly: do not write that something is heard."
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible chat endpoint."""

    url: str
    """Base, ``http://localhost:8000/v1``."""
    model: str
    api_key: str | None = None
    timeout_seconds: float = 120.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"the endpoint {self.url!r} must start with http:// or https://")

    def complete(self, prompt: str) -> str:
        """Send one request.

        Raises:
            DataError: It cannot be reached, refuses, or its response has another form.
        """
        body = {"model": self.model, "messages": [{"role": "user", "content": prompt}]}
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        url = f"{self.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310  (checked above)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_seconds) as response:  # noqa: S310
                tree: Any = json.load(response)
            return str(tree["choices"][0]["message"]["content"])
        except (urllib.error.URLError, OSError) as error:
            raise DataError(f"{url} does not answer: {error}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise DataError(f"{url} does not answer as an OpenAI-compatible endpoint: {error!r}") from error


def describe(labels: Sequence[str], endpoint: Endpoint, out: Path, *, count: int) -> int:
    """Write descriptions of the labels a file lacks; return the number of labels that were missing.

    Raises:
        DataError: The endpoint fails, or gives nothing usable for a label; what came before is in the file.
    """
    done = _labels_in(out)
    missing = [
        label for label in dict.fromkeys(readable_label(one) for one in labels) if label and label not in done
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        out.open("a", encoding="utf-8") as sink,
        Progress("describe", total=len(missing), unit="label") as bar,
    ):
        for label in missing:
            texts = sentences_in(endpoint.complete(_REQUEST.format(count=count, label=label)))
            if not texts:
                raise DataError(f"{endpoint.model} gave no sentence for the label {label!r}")
            sink.write(json.dumps({"label": label, "texts": texts, "model": endpoint.model}) + "\n")
            sink.flush()
            bar.advance()
    return len(missing)


def sentences_in(answer: str) -> list[str]:
    """Extract the sentences of an answer: numbering, blank lines, repetitions and long lines left out."""
    lines = (_NUMBERING.sub("", line).strip().strip('"') for line in answer.splitlines())
    return [
        line for line in dict.fromkeys(lines) if line and len(line.split()) <= MAX_WORDS and line[-1] != ":"
    ]


def _labels_in(out: Path) -> set[str]:
    if not out.exists():
        return set()
    try:
        return {
            readable_label(json.loads(line)["label"])
            for line in out.read_text("utf-8").splitlines()
            if line.strip()
        }
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{out} is no file of descriptions: {error!r}") from error
