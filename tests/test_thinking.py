"""Thinking is parted from content wherever the text is cut into pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_ft.runtime.embedded.thinking import ThinkingSplitter


def split(pieces: list[str], *, inside: bool = False) -> tuple[str, str]:
    splitter = ThinkingSplitter(opening="<think>", closing="</think>", inside=inside)
    parts = [splitter.feed(piece) for piece in pieces]
    parts.append(splitter.finish())
    return "".join(a for a, _ in parts), "".join(b for _, b in parts)


@pytest.mark.parametrize(
    ("text", "inside", "wanted"),
    [
        ("<think>why</think>so", False, ("why", "so")),
        (" \n<think>\nwhy\n</think>\n\nso it is", False, ("why", "so it is")),
        ("plain </think> text", False, ("", "plain </think> text")),
        (" leading space", False, ("", " leading space")),
        ("why</think>so", True, ("why", "so")),
        ("<think>never ends", False, ("never ends", "")),
        ("<think></think>so", False, ("", "so")),
        ("<thin", False, ("", "<thin")),
        ("", False, ("", "")),
        ("<think>a </thin b</think>c", False, ("a </thin b", "c")),
    ],
)
def test_the_two_parts(text: str, inside: bool, wanted: tuple[str, str]) -> None:
    assert split([text], inside=inside) == wanted
    assert split(list(text), inside=inside) == wanted


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<th", "ink>", " ", "\n", "a", "</"]), max_size=8
    ),
    st.booleans(),
)
def test_where_the_pieces_are_cut_does_not_matter(pieces: list[str], inside: bool) -> None:
    assert split(pieces, inside=inside) == split(list("".join(pieces)), inside=inside)
