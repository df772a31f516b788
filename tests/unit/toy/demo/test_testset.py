"""Audio test sets: clips in a folder of their own, judged by rule."""

import numpy as np
import pytest
import soundfile

from mats_ray.data.audio import read_audio
from mats_ray.toy.demo.systems import majority_answers
from mats_ray.toy.demo.testset import samples_of, shares_right, write_test_set
from mats_ray.toy.grammar import canonical_caption, caption_is_right
from mats_ray.toy.world import (
    NOVEL_STREAM,
    READ_STREAM,
    VALIDATION_NOVEL_STREAM,
    VALIDATION_READ_STREAM,
    split_of,
    text_triplets,
)


@pytest.fixture(scope="module")
def clips(world, tmp_path_factory):
    return write_test_set(world, tmp_path_factory.mktemp("audio"))


def perfect(clips):
    return [sample.references[0] for sample in samples_of(clips)]


def test_the_folder_holds_exactly_its_clips(world, tmp_path):
    (tmp_path / "0099.wav").write_bytes(b"of a larger test set")
    (tmp_path / "notes.txt").write_text("mine")

    clips = write_test_set(world, tmp_path)

    assert sorted(tmp_path.glob("*.wav")) == [clip.path for clip in clips]
    assert [clip.path.name for clip in clips] == [f"{index:04d}.wav" for index in range(12)]
    assert (tmp_path / "notes.txt").exists()


def test_the_files_are_sound_of_the_configured_length(clips):
    for clip in clips:
        audio = read_audio(clip.path)

        assert (audio.sample_rate, audio.seconds) == (16_000, 4)
        assert 0.2 < np.abs(audio.samples).max() < 1
        assert soundfile.info(clip.path).subtype == "PCM_16"


@pytest.mark.parametrize(
    ("stream", "scenes"),
    [
        (READ_STREAM, "train"),
        (NOVEL_STREAM, "novel"),
        (VALIDATION_READ_STREAM, "train"),
        (VALIDATION_NOVEL_STREAM, "validation"),
    ],
)
def test_each_set_draws_its_own_clips_of_its_own_scenes(world, tmp_path, stream, scenes):
    split = split_of(world)
    drawn = {split_stream: split.clips(split_stream, count=12, seed=0) for split_stream in range(11, 18)}
    seeds = [clip.seed for clips in drawn.values() for clip in clips]

    clips = write_test_set(world, tmp_path, stream)

    assert {clip.scene for clip in clips} <= set(getattr(split, scenes))
    assert len(set(seeds)) == len(seeds)


def test_no_question_is_asked_whose_answer_is_the_same_for_all_novel_scenes(world, tmp_path):
    clips = write_test_set(world, tmp_path, NOVEL_STREAM)

    assert "count" not in {qa.kind for clip in clips for qa in clip.questions}


def test_descriptions_are_right(clips):
    assert all(caption_is_right(clip.description, clip.scene) for clip in clips)
    assert all(len(clip.questions) >= 3 for clip in clips)


def test_a_file_that_is_right_stays_and_a_damaged_one_is_written_again(world, tmp_path):
    first, second, *_ = [clip.path for clip in write_test_set(world, tmp_path)]
    kept, sound = first.stat(), second.read_bytes()
    second.write_bytes(b"cut off")

    write_test_set(world, tmp_path)

    assert (first.stat().st_mtime_ns, first.stat().st_ino) == (kept.st_mtime_ns, kept.st_ino)
    assert second.read_bytes() == sound


def test_writing_again_gives_the_same_bytes(world, clips, tmp_path):
    again = write_test_set(world, tmp_path)

    assert [one.path.read_bytes() for one in again] == [clip.path.read_bytes() for clip in clips]
    assert [one.questions for one in again] == [clip.questions for clip in clips]


def test_a_sample_for_every_caption_and_question(clips):
    samples = samples_of(clips)

    assert len(samples) == 12 + sum(len(clip.questions) for clip in clips)
    assert [sample.id for sample in samples[:2]] == ["0000/caption", "0001/caption"]
    assert samples[0].references == (canonical_caption(clips[0].scene),)
    assert len({sample.id for sample in samples}) == len(samples)


def test_perfect_answers_score_one(clips):
    assert shares_right(samples_of(clips), perfect(clips)) == {
        "caption_all_sounds": 1.0,
        "questions_right": 1.0,
    }


def test_silence_scores_zero(clips):
    samples = samples_of(clips)

    assert set(shares_right(samples, [""] * len(samples)).values()) == {0.0}


def test_each_wrong_answer_counts_once(clips):
    samples, texts = samples_of(clips), perfect(clips)
    texts[3], texts[20] = "a unicorn sings", "perhaps"

    shares = shares_right(samples, texts)

    assert shares["caption_all_sounds"] == pytest.approx(11 / 12)
    assert shares["questions_right"] == pytest.approx(1 - 1 / (len(samples) - 12))


def test_answers_without_audio_score_far_below(world, clips):
    samples = samples_of(clips)

    blind = shares_right(samples, majority_answers(samples, text_triplets(world, split_of(world))))

    assert blind["caption_all_sounds"] < 0.3
    assert blind["questions_right"] < 0.7


def test_answers_of_unequal_number_are_our_own_mistake(clips):
    with pytest.raises(ValueError, match="shorter"):
        shares_right(samples_of(clips), perfect(clips)[1:])
