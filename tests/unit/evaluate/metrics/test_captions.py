"""Scores of captions are pycocoevalcap's, whatever is answered; what cannot be had is named."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from mats_ray.evaluate.measure import Measure
from mats_ray.evaluate.metrics import captions, java
from mats_ray.evaluate.metrics.captions import Texts, bleu, caption_scores, music_caption_scores, rouge_l
from mats_ray.evaluate.metrics.java import UnavailableError
from tests.unit.evaluate.scoring import NOTHING, audiocaps_test, clotho_evaluation, every, record, values

RECORDS = [
    record(
        "A dog barks loudly while it rains.", "A dog barks in the rain.", "Dogs bark, it's raining loudly"
    ),
    record("A man speaks", "A man is speaking in a large hall", "Someone talks"),
    record("Wind is blowing and a car passes by", "A car passes by as the wind blows"),
    record("A low-pitched engine idles", "An engine idles", "A low-pitched hum", "Some vehicle idling"),
]
ORDER = ["cider_d", "spice", "spider", "meteor", "rouge_l", "bleu_4", "fense"]


@pytest.fixture(autouse=True)
def no_java(monkeypatch, tmp_path):
    """Java takes seconds to start, and its own tests are elsewhere."""
    monkeypatch.setenv("PATH", str(tmp_path))


def coco(records):
    return Texts(records).as_coco()


def test_cider_rouge_and_bleu_are_those_of_pycocoevalcap():
    theirs = {
        "cider_d": Cider().compute_score(*coco(RECORDS))[0],
        "rouge_l": Rouge().compute_score(*coco(RECORDS))[0],
        "bleu_4": Bleu().compute_score(*coco(RECORDS), verbose=0)[0][3],
    }

    ours = values(caption_scores(RECORDS, NOTHING), RECORDS)

    assert ours == pytest.approx(theirs, abs=1e-12)
    assert all(value > 0.01 for value in theirs.values())


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_of_any_selection_is_that_of_pycocoevalcap_on_it(order):
    measure = bleu(Texts(RECORDS), order)

    for chosen in ([0], [1, 2], [3, 3, 0], [2, 1, 0, 3]):
        theirs, _ = Bleu().compute_score(*coco([RECORDS[n] for n in chosen]), verbose=0)
        assert measure.of(np.array(chosen)) == pytest.approx(theirs[order - 1], abs=1e-12)
    assert measure.values_N is None


def test_cider_of_a_selection_keeps_the_weights_of_the_whole_set():
    measure = caption_scores(RECORDS, NOTHING).measures["cider_d"]

    assert measure.values_N.tolist() == Cider().compute_score(*coco(RECORDS))[1].tolist()
    assert measure.of(np.array([0])) == measure.values_N[0]


def test_measures_stand_in_their_order_with_the_reason_of_those_that_cannot_be_had():
    sounds, music = caption_scores(RECORDS, NOTHING), music_caption_scores(RECORDS, NOTHING)

    assert list(sounds.measures) == ["cider_d", "rouge_l", "bleu_4"]
    assert list(music.measures) == ["rouge_l", "bleu_4", "cider_d"]
    assert list(sounds.unavailable) == ["spice", "spider", "meteor", "fense"]
    assert sounds.unavailable["meteor"] == "there is no java on PATH"
    assert sounds.unavailable["spider"] == sounds.unavailable["spice"]
    assert "aac-metrics" in sounds.unavailable["fense"]
    assert {*music.measures, *music.unavailable} == set(ORDER)


def test_details_name_tokenizer_and_library():
    details = caption_scores(RECORDS, NOTHING).details

    assert "PTBTokenizer" in details["tokenizer"]
    assert details["pycocoevalcap"].startswith("1.")


@pytest.mark.parametrize("answer", ["", "  \n", "...", "\U0001f436"])
def test_an_answer_without_words_scores_zero_and_is_counted(answer):
    mute = record(answer, "A dog barks for a long time and then it howls at the moon")
    scores = caption_scores([*RECORDS, mute], NOTHING)

    last = {name: one.of(np.array([len(RECORDS)])) for name, one in scores.measures.items()}
    assert last == pytest.approx({"cider_d": 0, "rouge_l": 0, "bleu_4": 0}, abs=1e-6)
    with_it, without_it = values(scores, [*RECORDS, mute]), values(caption_scores(RECORDS, NOTHING), RECORDS)
    assert with_it["rouge_l"] == pytest.approx(without_it["rouge_l"] * 4 / 5)
    assert with_it["bleu_4"] < without_it["bleu_4"]


def test_a_reference_of_punctuation_only_matches_nothing():
    only = [record("", "..."), record("A dog", "?"), record("...", "...", "!")]

    assert values(caption_scores(only, NOTHING), only) == pytest.approx(
        {"cider_d": 0, "rouge_l": 0, "bleu_4": 0}, abs=1e-6
    )


def test_no_samples_give_zero():
    assert values(caption_scores([], NOTHING), []) == {"cider_d": 0, "rouge_l": 0, "bleu_4": 0}


def test_one_sample_is_scored():
    one = values(caption_scores(RECORDS[:1], NOTHING), RECORDS[:1])

    assert one["cider_d"] == 0  # of one sample every word is in every reference set
    assert one["rouge_l"] > 0.4


def test_samples_whose_captions_are_not_published_have_no_scores():
    scores = caption_scores([RECORDS[0], record("A dog")], NOTHING)

    assert scores.measures == {}
    assert scores.unavailable == dict.fromkeys(ORDER, "1 of 2 samples have no reference")


def test_resamples_do_not_score_the_texts_again(monkeypatch):
    scores = caption_scores(RECORDS, NOTHING)
    monkeypatch.setattr(captions, "require", lambda name: pytest.fail(f"{name} is used again"))

    estimates = {name: one.estimate(every(RECORDS)) for name, one in scores.measures.items()}

    assert all(one.low < one.value < one.high for one in estimates.values())


def test_spider_is_half_the_sum_of_spice_and_cider(monkeypatch):
    monkeypatch.setattr(java, "spice", lambda *_: Measure.mean(np.array([0.1, 0.2, 0.3, 0.4])))

    found = values(caption_scores(RECORDS, NOTHING), RECORDS)

    assert found["spider"] == pytest.approx((found["cider_d"] + 0.25) / 2)


def test_a_text_is_tokenized_once(monkeypatch):
    seen = []
    monkeypatch.setattr(captions, "tokenize", lambda text: seen.append(text) or text.lower())
    repeated = [record("A dog", "A cat", "A bird") for _ in range(50)]

    caption_scores(repeated, NOTHING)

    assert sorted(seen) == ["A bird", "A cat", "A dog"]


class FakeFense:
    """aac_metrics.functional.fense 0.6.0 as far as it is called."""

    @staticmethod
    def fense(candidates, mult_references, *, sbert_model, echecker):
        assert echecker == "echecker_clotho_audiocaps_base"
        values = np.linspace(0.5, 0.9, len(candidates))
        return {}, {"fense": SimpleNamespace(cpu=lambda: SimpleNamespace(numpy=lambda: values))}


@pytest.fixture
def aac_metrics(monkeypatch, tmp_path):
    """An installed aac-metrics; its folder of models is returned."""
    monkeypatch.setattr(captions, "is_installed", lambda name: name == "aac_metrics")
    monkeypatch.setenv("FENSE_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "aac_metrics.functional.fense", FakeFense)
    monkeypatch.setitem(sys.modules, "aac_metrics.functional", SimpleNamespace(fense=FakeFense))
    monkeypatch.setitem(sys.modules, "aac_metrics", SimpleNamespace())
    return tmp_path


def sentence_transformers(monkeypatch, make):
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=make))


def test_fense_is_aac_metrics_with_models_of_this_machine_and_zero_for_empty_answers(
    aac_metrics, monkeypatch
):
    (aac_metrics / "echecker_clotho_audiocaps_base.ckpt").touch()
    requested = []
    sentence_transformers(monkeypatch, lambda name, **options: requested.append((name, options)))

    measure = captions.fense(Texts([record("A dog", "A dog"), record("...", "A cat"), record("A", "B")]))

    assert measure.values_N.tolist() == pytest.approx([0.5, 0, 0.9])
    assert requested == [("paraphrase-TinyBERT-L6-v2", {"local_files_only": True})]


def test_fense_names_the_model_that_is_not_there(aac_metrics, monkeypatch):
    def missing(name, **_):
        raise OSError(f"{name} is not cached")

    sentence_transformers(monkeypatch, missing)
    with pytest.raises(
        UnavailableError, match=r"echecker_clotho_audiocaps_base.ckpt, which aac-metrics-downl"
    ):
        captions.fense(Texts(RECORDS))
    (aac_metrics / "echecker_clotho_audiocaps_base.ckpt").touch()
    with pytest.raises(
        UnavailableError, match="FENSE lacks a model: paraphrase-TinyBERT-L6-v2 is not cached"
    ):
        captions.fense(Texts(RECORDS))


def test_rouge_takes_the_best_precision_and_the_best_recall():
    value = rouge_l(Texts([record("a b c d", "a b c d e f g h", "a x")])).of(np.array([0]))

    precision, recall, beta = 1.0, 0.5, 1.2
    assert value == pytest.approx((1 + beta**2) * precision * recall / (recall + beta**2 * precision))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("captions_of_clips", "published"), [(audiocaps_test, 0.9076), (clotho_evaluation, 0.9057)]
)
def test_a_human_caption_against_the_other_four_has_the_cider_that_the_jar_gives(
    captions_of_clips, published
):
    clips, found = captions_of_clips(), []

    for out in range(5):
        records = [record(five[out], *five[:out], *five[out + 1 :]) for five in clips]
        found.append(Texts(records).cider_d.of(every(records)))

    assert len(clips) in {975, 1_045}
    assert np.mean(found) == pytest.approx(published, abs=1e-4)
