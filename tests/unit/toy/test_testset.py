"""The audio test set: held-out scenes in a folder of their own, judged by rule."""

import numpy as np
import pytest
import soundfile

from mats_ray.data.audio import read_audio
from mats_ray.toy.grammar import canonical_caption, caption_is_right
from mats_ray.toy.systems import majority_baseline
from mats_ray.toy.testset import Score, score, write_test_set
from mats_ray.toy.world import split_of, text_triplets


@pytest.fixture(scope="module")
def clips(world, tmp_path_factory):
    return write_test_set(world, tmp_path_factory.mktemp("audio"))


def perfect(clips):
    return [canonical_caption(clip.scene) for clip in clips], [
        [qa.answer for qa in clip.questions] for clip in clips
    ]


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


def test_the_clips_are_of_held_out_scenes_and_described_rightly(world, clips):
    split = split_of(world)

    assert {clip.scene for clip in clips} <= set(split.held_out)
    assert not {clip.scene for clip in clips} & set(split.train)
    assert all(caption_is_right(clip.description, clip.scene) for clip in clips)
    assert all(len(clip.questions) >= 4 for clip in clips)


def test_writing_again_gives_the_same_bytes(world, clips, tmp_path):
    again = write_test_set(world, tmp_path)

    assert [one.path.read_bytes() for one in again] == [clip.path.read_bytes() for clip in clips]
    assert [one.questions for one in again] == [clip.questions for clip in clips]


def test_perfect_answers_score_one(clips):
    num_questions = sum(len(clip.questions) for clip in clips)

    assert score(clips, *perfect(clips)) == Score(1.0, 1.0, 12, num_questions)


def test_silence_scores_zero(clips):
    nothing = score(clips, [""] * len(clips), [[""] * len(clip.questions) for clip in clips])

    assert (nothing.caption_all_sounds, nothing.questions_right) == (0.0, 0.0)


def test_each_wrong_answer_counts_once(clips):
    generated, answers = perfect(clips)
    generated[3] = "a unicorn sings"
    answers[5][0] = "perhaps"

    result = score(clips, generated, answers)

    assert result.caption_all_sounds == pytest.approx(11 / 12)
    assert result.questions_right == pytest.approx(1 - 1 / result.num_questions)


def test_answers_without_audio_score_far_below(world, clips):
    blind = majority_baseline(clips, text_triplets(world, split_of(world)))

    assert blind.caption_all_sounds < 0.3
    assert blind.questions_right < 0.7


def test_answers_of_unequal_number_are_our_own_mistake(clips):
    generated, answers = perfect(clips)

    with pytest.raises(ValueError, match="shorter"):
        score(clips, generated[1:], answers)
    with pytest.raises(ValueError, match="shorter"):
        score(clips, generated, [answers[0][1:], *answers[1:]])
