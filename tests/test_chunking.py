"""Cutting: passages follow the structure, stay within the bound, and lose nothing."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_ft.kinds.chunking import cut, sentences
from ollama_ft.kinds.embedding import estimate
from ollama_ft.kinds.readers.block import Block


def words(text: str) -> int:
    return len(text.split())


def h(level: int, text: str) -> Block:
    return Block(kind="heading", text=text, level=level)


def p(text: str, page: int | None = None) -> Block:
    return Block(kind="text", text=text, page=page)


def pieces(blocks, most=20, count=words):
    return [(piece.heading, piece.text) for piece in cut(blocks, count, most)]


def test_paragraphs_are_put_together_while_they_fit():
    assert pieces([p("a b c"), p("d e f"), p("g h i")], most=7) == [
        ("", "a b c\nd e f"),
        ("", "g h i"),
    ]


def test_a_passage_never_crosses_a_heading_or_a_break():
    blocks = [h(1, "A"), p("one"), h(2, "B"), p("two"), Block(kind="break"), p("three"), h(1, "C")]
    assert pieces([*blocks, p("four")]) == [
        ("A", "one"),
        ("A › B", "two"),
        ("A › B", "three"),
        ("C", "four"),
    ]


def test_a_heading_with_nothing_below_it_is_a_passage_of_its_own():
    blocks = [h(1, "Hours"), h(2, "Open from 9 to 5"), h(2, "Closed on Monday")]
    assert pieces(blocks) == [("Hours", "Open from 9 to 5"), ("Hours", "Closed on Monday")]


def test_a_title_that_is_repeated_as_first_heading_is_told_once():
    assert pieces([h(1, "Guide"), h(2, "Guide"), p("x")]) == [("Guide", "x")]


def test_a_paragraph_that_is_too_long_is_cut_between_sentences_with_the_last_one_repeated():
    text = "A b c d e f. G h. I j k l m n o. P q."
    assert pieces([p(text)], most=10) == [
        ("", "A b c d e f. G h."),
        ("", "G h. I j k l m n o."),
        ("", "P q."),
    ]


def test_whole_paragraphs_are_never_repeated():
    blocks = [p(f"{n} x x x.") for n in range(6)]
    assert "".join(text for _, text in pieces(blocks, most=9)).count("x.") == 6


def test_chinese_is_cut_after_its_own_full_stops():
    assert sentences("九点开门。真的吗？“是。”好") == ["九点开门。", "真的吗？", "“是。”", "好"]
    text = "水壶保修两年。" * 20
    found = [text for _, text in pieces([p(text)], most=30, count=estimate)]
    assert len(found) > 3
    assert all(text.endswith("两年。") for text in found)


def test_a_sentence_that_is_too_long_is_cut_between_words():
    found = [text for _, text in pieces([p(" ".join(["word"] * 50))], most=12)]
    assert all(set(text.split()) == {"word"} for text in found)
    assert sum(map(words, found)) == 50


def test_the_page_is_the_one_on_which_the_passage_begins():
    blocks = [p("a b", 1), p("c d", 2), p("e f g h", 3)]
    assert [piece.page for piece in cut(blocks, words, 4)] == [1, 3]


def test_the_digest_is_of_heading_and_text():
    one, two, other = (next(cut([h(1, heading), p("x")], words)) for heading in ("A", "A", "B"))
    assert one.digest == two.digest != other.digest


@settings(max_examples=150)
@given(
    st.lists(
        st.one_of(
            st.text("ab 。.!？\n开门", min_size=1, max_size=120).map(p),
            st.text("xy 标", min_size=1, max_size=40).map(lambda text: h(1, text)),
        ),
        max_size=8,
    ),
    st.integers(8, 40),
)
def test_nothing_is_longer_than_the_bound_and_no_letter_is_lost(blocks, most):
    found = list(cut(blocks, estimate, most))
    assert all(estimate(piece.text) <= most for piece in found)
    told = Counter("".join(piece.text for piece in found))
    meant = Counter("".join(block.text for block in blocks if block.kind == "text"))
    assert not {c for c in meant - told if not c.isspace()}


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 2), ("open", 3), ("开门时间", 6), ("31 hours!", 6)]
)
def test_tokens_are_estimated_where_no_vocabulary_is_at_hand(text, tokens):
    assert estimate(text) == tokens


def test_a_heading_as_long_as_a_paragraph_loses_nothing():
    long = " ".join(f"w{n}" for n in range(90))
    found = pieces([h(1, "Rules"), h(2, long), p("x")], most=60)
    assert [heading for heading, _ in found] == ["Rules"] * len(found)
    assert set(f"{long} x".split()) == set(" ".join(text for _, text in found).split())


def test_one_word_without_end_is_cut_though_it_is_one_token():
    found = [text for _, text in pieces([p("f" * 100_000)], most=20)]
    assert "".join(found) == "f" * 100_000
    assert max(map(len, found)) <= 20 * 12


@pytest.mark.parametrize(
    "text",
    ["abcdefghij " * 100_000, "f" * 1_000_000, "a" + "\n" * 1_000_000 + "b", "开门" * 300_000],
    ids=["words", "one word", "empty lines", "chinese"],
)
def test_a_paragraph_without_end_is_cut_in_one_pass_over_it(text):
    letters = 0

    def counted(some: str) -> int:
        nonlocal letters
        letters += len(some)
        return estimate(some)

    assert list(cut([p(text)], counted))
    assert letters < 40 * len(text)
