import pytest

from mats_ray.infer.detokenizer import IncrementalDetokenizer

WORDS = ["", " A", " dog", " barks", ".", " ", "END", " more"]


def decode(ids):
    return "".join(WORDS[index] for index in ids).strip()


def detokenize(ids, *, stop=(), ended=True, decode=decode):
    """Push ids one by one; returns the deltas and the answer."""
    detokenizer, deltas = IncrementalDetokenizer(decode, stop=stop), []
    for count in range(1, len(ids) + 1):
        delta = detokenizer.push(ids[:count])
        if delta is not None:
            deltas.append(delta.text)
            if delta.answer is not None:
                return deltas, delta.answer
    last = detokenizer.finish(ids, ended=ended)
    return [*deltas, last.text], last.answer


def test_deltas_add_up_to_the_answer():
    deltas, answer = detokenize([1, 2, 3, 4])

    assert deltas == ["A", " dog", " barks", ".", ""]
    assert (answer.text, answer.num_tokens, answer.finish_reason) == ("A dog barks.", 4, "stop")


def test_an_answer_that_is_cut_ends_with_length():
    assert detokenize([1, 2], ended=False)[1].finish_reason == "length"


def test_space_that_may_be_the_end_is_held_back():
    deltas, answer = detokenize([1, 5, 5, 2])

    assert deltas == ["A", "   dog", ""]
    assert answer.text == "A   dog"
    assert detokenize([1, 5])[1].text == "A"


def test_half_a_character_is_held_back():
    bark = "🐕 barks".encode()

    def decode_bytes(ids):
        return bytes(ids).decode(errors="replace")

    deltas, answer = detokenize(list(bark), decode=decode_bytes)

    assert deltas[0] == "🐕"
    assert "".join(deltas) == answer.text == "🐕 barks"


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it():
    deltas, answer = detokenize([1, 2, 3, 4], stop=["bark"])

    assert "".join(deltas) == answer.text == "A dog"
    assert (answer.finish_reason, answer.num_tokens) == ("stop", 3)


def test_the_start_of_a_stop_text_is_held_back_until_it_is_clear():
    deltas, answer = detokenize([1, 2, 3], stop=["dogma", "E"])

    assert deltas == ["A", " dog barks", ""]
    assert answer.text == "A dog barks"


@pytest.mark.parametrize("stop", [["gEND"], ["END", " more"], ["D"]])
def test_the_first_of_several_stop_texts_counts_also_at_the_very_end(stop):
    deltas, answer = detokenize([1, 2, 6, 7], stop=stop)

    assert "".join(deltas) == answer.text
    assert "END" not in answer.text
    assert answer.finish_reason == "stop"
