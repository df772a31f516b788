"""Questions: three rows per question, answers by majority, the text of a clip from another file or row."""

import json

import pytest

from mats_ray.data.sources.clotho_aqa import NO_MAJORITY, NOT_IN_CLOTHO
from mats_ray.errors import DataError
from tests.unit.data.sources.reading import Read, annotations, write

CAPTIONS = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\nBackyard.wav,c1,c2,c3,c4,c5\n"
HEADER = "file_name,QuestionText,answer,confidence\n"


@pytest.mark.shared
def test_real_musicqa_gives_every_question_the_description_of_its_clip():
    read = Read("musicqa", annotations("EvalMusicQA.json"))

    assert (len(read.rows), read.rejected, read.dropped) == (5_040, [], {})
    assert len({row.key for row in read.rows}) == 5_040
    assert len(set(read.texts)) > 550
    detail = [row for row in read.rows if row.question == "Describe the audio in detail"]
    assert len(detail) == 560
    assert all(row.text == row.answer for row in detail)


def test_clotho_aqa_has_a_row_per_annotator_and_uses_the_majority(tmp_path):
    rows = (
        "Backyard.wav,Is it loud?,Yes,yes\nBackyard.wav,Is "
        "it loud?,no,maybe\nBackyard.wav,Is it loud?,yes,Yes\n"
        "Backyard.wav,How many?,one,yes\nBackyard.wav,How many?,two,no\nBackyard.wav,How many?,three,no\n"
        "Other.wav,Is it loud?,yes,yes\nOther.wav,Is it loud?,yes,yes\nOther.wav,Is it loud?,yes,yes\n"
    )
    clotho = write(tmp_path, "clotho.csv", CAPTIONS)

    read = Read("clotho_aqa", write(tmp_path, "clotho_aqa_train.csv", HEADER + rows), captions=clotho)

    assert read.texts == ["c1", "c2", "c3", "c4", "c5"]
    assert {(row.question, row.answer) for row in read.rows} == {("Is it loud?", "yes")}
    assert len(set(read.keys)) == 5
    assert read.dropped == {NO_MAJORITY: 1, NOT_IN_CLOTHO: 1}


def test_clotho_aqa_may_be_latin1(tmp_path):
    row = "Caf\xe9.wav,Is it loud?,yes,yes\n".encode("latin-1")
    clotho = write(tmp_path, "clotho.csv", CAPTIONS.replace("Backyard", "Café"))

    read = Read("clotho_aqa", write(tmp_path, "a.csv", HEADER.encode() + row), captions=clotho)

    assert len(read.rows) == 5


@pytest.mark.parametrize("header", ["file_name,QuestionText,answer\n", ""])
def test_the_cleaned_file_has_one_row_per_question_and_sometimes_no_header(tmp_path, header):
    rows = '"Backyard.wav","How many birds are squawking?",THREE\n"Backyard.wav","Which?",\n'
    clotho = write(tmp_path, "clotho.csv", CAPTIONS)

    read = Read("clotho_aqa_clean", write(tmp_path, "x_clean.csv", header + rows), captions=clotho)

    assert {row.answer for row in read.rows} == {"three"}
    assert len(read.rows) == 5
    assert [reason for _, reason in read.rejected] == ["empty question or answer"]


def test_clotho_aqa_is_not_read_without_clothos_development_captions(tmp_path):
    with pytest.raises(DataError, match="Clotho's captions of its development split"):
        Read("clotho_aqa", write(tmp_path, "clotho_aqa_train.csv", HEADER))


def aqa(task, output, clip="a.flac", instruction="What happens?"):
    return {
        "instruction": instruction,
        "input": "",
        "audio_id": clip,
        "dataset": "as_20k",
        "task": task,
        "output": output,
    }


def test_openaqa_reads_the_text_of_a_question_from_the_closed_rows_of_its_clip(tmp_path):
    rows = [
        aqa("open-ended question", "A dog is near."),
        aqa("cla_label", "Labels: Dog; Bark"),
        aqa("caption", "Audio caption: A dog barks."),
        aqa("open-ended question", "It rains.", clip="b.flac"),
        aqa("cla_label", "Labels: Rain", clip="b.flac"),
        aqa("open-ended question", "Nobody knows.", clip="c.flac"),
        aqa("open-ended question", "It cannot be determined from the audio."),
        {"instruction": "x"},
    ]

    read = Read("openaqa", write(tmp_path, "openaqa.json", json.dumps(rows)))

    assert [(row.text, row.answer) for row in read.rows] == [
        ("A dog barks.", "A dog is near."),
        ("Rain", "It rains."),
    ]
    assert read.dropped == {
        "closed-ended (its text serves the questions)": 3,
        "no caption or label of its clip": 1,
        "not answerable": 1,
    }
    assert read.rejected == [(8, "no instruction, audio_id, task or output")]


def test_openaqa_prefers_captions_given_beside(tmp_path):
    path = write(
        tmp_path, "openaqa.json", json.dumps([aqa("caption", "theirs"), aqa("open-ended question", "x")])
    )
    captions = write(tmp_path, "captions.jsonl", json.dumps({"audio_id": "a.flac", "caption": "ours"}))

    assert Read("openaqa", path, captions=captions).texts == ["ours"]


def music(question, answer, clip="a.mp3"):
    return {
        "audio_name": clip,
        "conversation": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
    }


def test_musicqa_drops_questions_without_a_description_of_the_clip(tmp_path):
    rows = [
        music("Describe the audio", "A harp."),
        music("Is it fast?", "No."),
        music("Is it fast?", "Yes.", clip="b.mp3"),
        music("", "x"),
        {"audio_name": "c"},
    ]

    read = Read("musicqa", write(tmp_path, "FinetuneMusicQA.json", json.dumps(rows)))

    assert [(row.text, row.question) for row in read.rows] == [
        ("A harp.", "Describe the audio"),
        ("A harp.", "Is it fast?"),
    ]
    assert read.dropped == {"no description of its clip": 1}
    assert [number for number, _ in read.rejected] == [4, 5]


def test_musicqa_uses_every_caption_of_a_companion(tmp_path):
    path = write(tmp_path, "PretrainMusicQA.json", json.dumps([music("Is it fast?", "No.")]))
    lines = "\n".join(json.dumps({"audio_name": "a.mp3", "caption": text}) for text in ("one", "two"))

    read = Read("musicqa", path, captions=write(tmp_path, "lp.jsonl", lines))

    assert read.texts == ["one", "two"]
    assert len(set(read.keys)) == 2


def test_the_rows_of_a_question_count_together_wherever_they_stand(tmp_path):
    rows = "".join(
        f"Backyard.wav,{question},{answer},yes\n"
        for question, answer in [
            *(("Is it loud?", "yes"), ("Is it near?", "no"), ("Is it  loud?", "no"), ("is it near?", "no")),
            *(("Is it loud?", "yes"), ("Is it near?", "no"), ("Even?", "yes"), ("Even?", "no")),
            *(("Even?", "yes"), ("Even?", "no"), ("How many?", "None"), ("How many?", "two")),
            ("How many?", "two"),
        ]
    )
    clotho = write(tmp_path, "clotho.csv", CAPTIONS)

    read = Read("clotho_aqa", write(tmp_path, "clotho_aqa_train.csv", HEADER + rows), captions=clotho)

    answers = {(row.question, row.answer) for row in read.rows}
    assert answers == {("Is it loud?", "yes"), ("Is it near?", "no"), ("How many?", "two")}
    assert len(read.rows) == 15
    assert read.dropped == {NO_MAJORITY: 1}
    assert [reason for _, reason in read.rejected] == ["empty question or answer"]


def test_the_cleaned_file_never_gives_two_answers_to_a_question(tmp_path):
    rows = "Backyard.wav,Loud?,YES\nBackyard.wav,Near?,NO\nBackyard.wav,Loud?,NO\nBackyard.wav,Near?,NO\n"
    clotho = write(tmp_path, "clotho.csv", CAPTIONS)

    read = Read("clotho_aqa_clean", write(tmp_path, "x_clean.csv", rows), captions=clotho)

    assert {(row.question, row.answer) for row in read.rows} == {("Near?", "no")}
    assert (len(read.rows), read.dropped) == (5, {NO_MAJORITY: 1})


@pytest.mark.parametrize(
    "caption", [b'"Audio caption: A dog \\ud83d"', b'"Audio caption: A caf\xe9"', b'"nan"', b"null", b"NaN"]
)
def test_openaqa_loses_one_clip_to_a_caption_that_is_no_text(tmp_path, caption):
    def rows(clip, text):
        head = b'{"instruction": "What?", "input": "", "dataset": "x", "audio_id": "%d.flac", ' % clip
        yield head + b'"task": "caption", "output": %s}' % text
        yield head + b'"task": "open-ended question", "output": "It barks %d times."}' % clip

    texts = [b'"A dog barks."', b'"A dog barks."', caption, b'"A dog barks."', b'"A dog barks."']
    items = [row for clip, text in enumerate(texts) for row in rows(clip, text)]
    read = Read("openaqa", write(tmp_path, "open.json", b"[" + b", ".join(items) + b"]"))

    assert [row.answer for row in read.rows] == [f"It barks {clip} times." for clip in (0, 1, 3, 4)]
    assert read.dropped["no caption or label of its clip"] == 1
    assert len(read.rejected) == 1


def test_captions_beside_are_texts_or_nothing(tmp_path):
    item = {"audio_id": "1.flac", "instruction": "What?", "task": "open-ended question", "output": "A dog."}
    beside = write(
        tmp_path,
        "captions.jsonl",
        '{"audio_id": "1.flac", "caption": null}\n{"audio_id": "1.flac", "caption": "half \\ud83d"}\n'
        '{"audio_id": "1.flac", "caption": "None"}\n{"audio_id": "1.flac", "caption": "A dog barks."}\n',
    )

    read = Read("openaqa", write(tmp_path, "open.json", json.dumps([item])), captions=beside)

    assert read.texts == ["A dog barks."]


def test_musicqa_finds_a_clips_description_wherever_its_rows_stand(tmp_path):
    def item(clip, question, answer):
        return {"audio_name": clip, "conversation": [{"value": question}, {"value": answer}]}

    items = [item("a", "Sad?", "no"), item("b", "Sad?", "yes"), item("a", "Describe the audio", "a song")]
    read = Read("musicqa", write(tmp_path, "EvalMusicQA.json", json.dumps([*items, {"audio_name": "b"}])))

    texts = [(row.question, row.text) for row in read.rows]
    assert texts == [("Sad?", "a song"), ("Describe the audio", "a song")]
    assert read.dropped == {"no description of its clip": 1}
    assert len(read.rejected) == 1
