"""METEOR and SPICE: programs in Java that come with pycocoevalcap, each with needs of its own.

METEOR 1.5 runs on any Java. SPICE 1.0 runs on Java 8 to 13 and parses with Stanford CoreNLP 3.6.0, which
pycocoevalcap downloads when it is first used. Nothing is downloaded here: what is not in place is named.
Shapes: N samples, S samples of a selection, F statistics of METEOR.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mats_ray.errors import MATSError
from mats_ray.evaluate.extra import require
from mats_ray.evaluate.measure import Measure

SPICE_JAVA = range(8, 14)
_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
"""METEOR 1.5's parameters for English, and its weights of equal words, stems, synonyms and paraphrases."""
_CHUNKS, _NUM_STATISTICS = 20, 23


class UnavailableError(MATSError):
    """A measure that cannot be had here, and why."""


def meteor(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Measure:
    """Score by METEOR 1.5, of a selection from the sums of its samples' statistics, as METEOR itself does it.

    It is no mean over samples, and equals what pycocoevalcap returns for all of them.

    Args:
        candidates: Tokenized texts (N).
        references: Tokenized texts of each sample.

    Raises:
        UnavailableError: There is no Java, or METEOR does not run.
    """
    lines = [
        " ||| ".join(["SCORE", *others, candidate])
        for candidate, others in zip(candidates, references, strict=True)
    ]
    folder = _folder("meteor")
    arguments = [
        "-Xmx2G",
        "-Dfile.encoding=UTF-8",
        "-jar",
        "meteor-1.5.jar",
        "-",
        "-",
        "-stdio",
        "-l",
        "en",
        "-norm",
    ]
    output = _run(arguments, folder, "".join(f"{line}\n" for line in lines)).splitlines()
    try:
        statistic_NF = np.array([line.split() for line in output], dtype=np.float64)
        statistic_NF = statistic_NF.reshape(len(lines), _NUM_STATISTICS)
    except ValueError as error:
        raise UnavailableError(f"METEOR gave no statistics: {' '.join(output)[:200]!r}") from error
    statistic_NF[_is_whole(statistic_NF), _CHUNKS] = 0  # METEOR does not call equal texts fragmented
    return Measure(of=lambda index_S: meteor_score(statistic_NF[index_S].sum(axis=0)))


def meteor_score(statistic_F: np.ndarray) -> float:
    """Compute METEOR of sums over samples of the statistics that its jar prints.

    Args:
        statistic_F: Words of candidate and reference, function words of both; for each of four kinds of match
            the content words of both and the function words of both; chunks, none of a sample whose texts are
            equal; matched words of both.
    """
    words, functions = statistic_F[:2], statistic_F[2:4]
    matches = statistic_F[4:20].reshape(len(_WEIGHTS), 2, 2)  # kind, content or function, text
    matched = statistic_F[_CHUNKS + 1 :]
    if not matched.all():
        return 0.0
    share_of_kind = np.array([_DELTA, 1 - _DELTA])
    weighted = np.einsum("k,f,kft->t", _WEIGHTS, share_of_kind, matches)
    precision, recall = weighted / (_DELTA * (words - functions) + (1 - _DELTA) * functions)
    if precision == 0 or recall == 0:
        return 0.0
    mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
    return float(mean * (1 - _GAMMA * (statistic_F[_CHUNKS] / matched.mean()) ** _BETA))


def spice(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Measure:
    """Score by SPICE, the F value over tuples of the scene graphs; 0 for an empty candidate.

    Args:
        candidates: Tokenized texts (N).
        references: Tokenized texts of each sample.

    Raises:
        UnavailableError: CoreNLP is not in place, or there is no Java that SPICE runs on.
    """
    folder = _folder("spice")
    if missing := [name for name in _MODELS if not (folder / "lib" / name).is_file()]:
        raise UnavailableError(
            f"SPICE needs {' and '.join(missing)} of Stanford CoreNLP 3.6.0 in {folder / 'lib'}"
        )
    if (version := java_version()) not in SPICE_JAVA:
        raise UnavailableError(
            f"SPICE needs Java {SPICE_JAVA[0]} to {SPICE_JAVA[-1]}, here is Java {version}"
        )
    items = [
        {"image_id": number, "test": candidate, "refs": list(others)}
        for number, (candidate, others) in enumerate(zip(candidates, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as work:
        given, found = Path(work, "captions.json"), Path(work, "scores.json")
        given.write_text(json.dumps(items), encoding="utf-8")
        _run(
            ["-Xmx8G", "-jar", "spice-1.0.jar", str(given), "-out", str(found), "-subset", "-silent"], folder
        )
        score_of = {one["image_id"]: one["scores"]["All"]["f"] for one in json.loads(found.read_text())}
    values_N = np.array([score_of[number] for number in range(len(items))], dtype=np.float64)  # null: nan
    values_N[[not candidate for candidate in candidates]] = 0
    return Measure.mean(np.nan_to_num(values_N))


def java_version() -> int:
    """Return the main version of the Java on PATH, 8 for 1.8.

    Raises:
        UnavailableError: There is none, or it does not run.
    """
    text = _run(["-version"], Path.cwd())
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    if not found:
        raise UnavailableError(f"java -version prints no version: {text[:200]!r}")
    return int(found[1])


def _is_whole(statistic_NF: np.ndarray) -> np.ndarray:
    """Whether every word of candidate and reference is matched, in one piece, (N,)."""
    all_matched_N = (statistic_NF[:, _CHUNKS + 1 :] == statistic_NF[:, :2]).all(axis=1)
    return all_matched_N & (statistic_NF[:, _CHUNKS] == 1)


def _folder(name: str) -> Path:
    return Path(require(f"pycocoevalcap.{name}.{name}").__file__).parent


def _run(arguments: Sequence[str], folder: Path, text: str = "") -> str:
    """Run Java in a folder to its end and return what it prints; nothing of it reaches the terminal."""
    if not (java := shutil.which("java")):
        raise UnavailableError("there is no java on PATH")
    done = subprocess.run(  # noqa: S603
        [java, *arguments],
        cwd=folder,
        input=text,
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise UnavailableError(f"java {' '.join(arguments)} ended with {done.returncode}: {' '.join(last)}")
    return done.stdout or done.stderr
