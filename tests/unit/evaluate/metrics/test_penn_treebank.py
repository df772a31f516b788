"""Words of captions are those of Stanford's tokenizer as pycocoevalcap uses it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from pycocoevalcap.tokenizer import ptbtokenizer

from mats_ray.evaluate.metrics.penn_treebank import tokenize
from tests.unit.evaluate.scoring import audiocaps_test, clotho_evaluation

JAR = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog's bark, low-pitched.", "a dog 's bark low-pitched"),
        ("It doesn't; we can't and cannot.", "it does n't we ca n't and can not"),
        ("He\u2019s here \u2013 \u201cnow\u201d", "he 's here now"),
        ("R&B / hip-hop/rap at 4/4, 1,000 times", "r&b / hip-hop/rap at 4/4 1,000 times"),
        ("over a P.A. system (loud)", "over a p.a. system -lrb- loud -rrb-"),
        ("wow... what?! -- ok!", "wow what ?! ok"),
        ("rock 'n' roll o'clock", "rock 'n' roll o'clock"),
        ("one\ntwo\tthree  four", "one two three four"),
        ("...", ""),
        ("", ""),
    ],
)
def test_words_are_those_of_the_penn_treebank_without_its_punctuation(text, words):
    assert tokenize(text) == words


@pytest.mark.shared
@pytest.mark.skipif(not shutil.which("java"), reason="no java to compare with")
@pytest.mark.parametrize("captions", [audiocaps_test, clotho_evaluation])
def test_real_captions_have_the_words_of_stanfords_jar(captions, tmp_path):
    texts = [text.replace("\n", " ") for five in captions() for text in five]
    file = tmp_path / "captions.txt"
    file.write_text("\n".join(texts), encoding="utf-8")

    theirs = by_the_jar(file)

    different = [text for text, words in zip(texts, theirs, strict=True) if tokenize(text) != words]
    assert len(texts) > 4_800
    assert different == []


def by_the_jar(file):
    """The command of ``PTBTokenizer.tokenize``, which writes its file beside the jar, and its filter."""
    command = [
        "java",
        "-cp",
        str(JAR),
        "edu.stanford.nlp.process.PTBTokenizer",
        "-preserveLines",
        "-lowerCase",
    ]
    done = subprocess.run([*command, str(file)], capture_output=True, check=True, encoding="utf-8")
    lines = done.stdout.removesuffix("\n").split("\n")
    return [" ".join(one for one in line.split() if one not in ptbtokenizer.PUNCTUATIONS) for line in lines]
