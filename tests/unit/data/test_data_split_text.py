from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.train.data.split_text import pieces


@given(chunks=st.lists(st.text("ab \n", max_size=40), max_size=8), piece_chars=st.integers(2, 20))
@settings(max_examples=200, deadline=None)
def test_pieces_lose_nothing_and_only_the_last_one_is_last(chunks, piece_chars):
    found = list(pieces(chunks, piece_chars))
    assert "".join(text for text, _ in found) == "".join(chunks)
    assert [is_last for _, is_last in found] == [False] * (len(found) - 1) + [True]
    assert all(0 < len(text) <= piece_chars for text, _ in found[:-1])


def test_a_cut_falls_before_a_word_that_opens_a_line():
    found = [text for text, _ in pieces(["one two\n\n  three\nfour\n\nsix"], 22)]
    assert found == ["one two\n\n  three\n", "four\n\nsix"]


def test_a_line_that_is_too_long_is_cut_after_a_word():
    assert [text for text, _ in pieces(["one two three four"], 10)] == [
        "one two",
        " three",
        " four",
    ]


def test_an_endless_word_is_cut_at_the_limit():
    assert [text for text, _ in pieces(["abcdefgh"], 3)] == ["abc", "def", "gh"]


def test_tokens_of_pieces_are_the_tokens_of_the_whole_in_a_real_tokenizer(smollm2):
    from pydoc_data.topics import topics

    text = "\n".join(topics.values())[:150_000]
    parts = [part for part, _ in pieces([text], 4096)]
    joined = [t for part in parts for t in smollm2(part)["input_ids"]]
    assert len(parts) > 36
    assert joined == smollm2(text, verbose=False)["input_ids"]
