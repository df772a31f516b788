import pytest

from mats_ray.infer.detokenizer import Spoken

WORDS = ["", " A", " dog", " barks", ".", " ", "END", " more"]


def decode(ids):
    return "".join(WORDS[index] for index in ids).strip()


def tell(ids, *, stop=(), ended=True, decode=decode):
    """Say ids one by one; returns the pieces and the answer."""
    spoken, pieces = Spoken(decode, stop=stop), []
    for count in range(1, len(ids) + 1):
        piece = spoken.hear(ids[:count])
        if piece is not None:
            pieces.append(piece.text)
            if piece.answer is not None:
                return pieces, piece.answer
    last = spoken.finish(ids, ended=ended)
    return [*pieces, last.text], last.answer


def test_pieces_add_up_to_the_answer():
    pieces, answer = tell([1, 2, 3, 4])

    assert pieces == ["A", " dog", " barks", ".", ""]
    assert (answer.text, answer.num_tokens, answer.finish_reason) == ("A dog barks.", 4, "stop")


def test_an_answer_that_is_cut_says_so():
    assert tell([1, 2], ended=False)[1].finish_reason == "length"


def test_space_that_may_be_the_end_is_held_back():
    pieces, answer = tell([1, 5, 5, 2])

    assert pieces == ["A", "   dog", ""]
    assert answer.text == "A   dog"
    assert tell([1, 5])[1].text == "A"


def test_half_a_character_is_held_back():
    bark = "🐕 barks".encode()

    def decode_bytes(ids):
        return bytes(ids).decode(errors="replace")

    pieces, answer = tell(list(bark), decode=decode_bytes)

    assert pieces[0] == "🐕"
    assert "".join(pieces) == answer.text == "🐕 barks"


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it():
    pieces, answer = tell([1, 2, 3, 4], stop=["bark"])

    assert "".join(pieces) == answer.text == "A dog"
    assert (answer.finish_reason, answer.num_tokens) == ("stop", 3)


def test_the_beginning_of_a_stop_text_is_held_back_until_it_is_clear():
    pieces, answer = tell([1, 2, 3], stop=["dogma", "E"])

    assert pieces == ["A", " dog barks", ""]
    assert answer.text == "A dog barks"


@pytest.mark.parametrize("stop", [["gEND"], ["END", " more"], ["D"]])
def test_the_first_of_several_stop_texts_counts_also_at_the_very_end(stop):
    pieces, answer = tell([1, 2, 6, 7], stop=stop)

    assert "".join(pieces) == answer.text
    assert "END" not in answer.text
    assert answer.finish_reason == "stop"
