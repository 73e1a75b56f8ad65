"""Blocks to passages: along headings, then paragraphs, then sentences, none longer than the bound.

A passage never crosses a heading or a break. Paragraphs are put together while they fit. Only a
paragraph that is longer than the bound is cut, at the end of a sentence; then the last sentence of
a passage begins the next one as well, so that nothing is read without what it refers to.

The bound is one of letters as well: to a WordPiece vocabulary a key of a million letters is one
unknown word, and a million empty lines are nothing.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from ollama_ft.core.files import digest_bytes
from ollama_ft.kinds.readers.block import Block

Count = Callable[[str], int]  # tokens of a text, as the embedding model has them

TOKENS = 256  # all-MiniLM-L6-v2's max_seq_length, with headings and special tokens
_LETTERS = 12  # that a token has at most in a text: English has five, a line of code some more
_HEADING_LETTERS = 200
_SEPARATOR = " › "
_OVERLAP = 4  # a repeated sentence takes at most 1/4 of a passage

_SENTENCE_END = re.compile(r"[。！？；｡]+[”’」』）】]*|[.!?…]+[\"'”’)\]]*(?=\s)|\n+")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of a document that is found, and read, by itself."""

    heading: str  # "Shipping › Abroad"; "" above the first heading
    text: str
    tokens: int  # of heading and text together
    page: int | None = None

    @property
    def digest(self) -> str:
        """Of what is embedded: the same passage in two documents is one chunk."""
        return digest_bytes(f"{self.heading}\0{self.text}".encode())


def embedded_text(heading: str, text: str) -> str:
    """What is embedded, and indexed, of a passage."""
    return f"{heading}\n{text}" if heading else text


def cut(blocks: Iterable[Block], count: Count, most: int = TOKENS) -> Iterator[Piece]:
    """The passages of a document, in reading order.

    A heading with nothing below it is a passage of its own, since it may be all that is said. One
    that is as long as a paragraph is read as a paragraph.
    """
    count = _bounded(count, most)
    path: list[tuple[int, str]] = []  # the headings above, with their levels
    waiting: list[Block] = []
    is_told = True  # whether something stands below the last heading
    for block in blocks:
        if block.kind == "text" or _is_long(block.text, count, most):
            waiting.append(block)
            is_told = True
            continue
        yield from _pack(_joined(path), waiting, count, most)
        waiting = []
        if block.kind != "heading":
            continue
        if not is_told and block.level <= path[-1][0]:
            yield from _alone(path, count, most)
        path = [(level, text) for level, text in path if level < block.level]
        path.append((block.level, block.text))
        is_told = False
    yield from _pack(_joined(path), waiting, count, most)
    if not is_told:
        yield from _alone(path, count, most)


def _bounded(count: Count, most: int) -> Count:
    """Tokens, but never fewer than so many letters must have. What has too many of these is not
    counted, so that a long text costs no more than its pieces."""

    def bounded(text: str) -> int:
        least = math.ceil(len(text) / _LETTERS)
        return least if least > most else max(least, count(text))

    return bounded


def _is_long(heading: str, count: Count, most: int) -> bool:
    return len(heading) > _HEADING_LETTERS or count(heading) > most // 2


def _alone(path: list[tuple[int, str]], count: Count, most: int) -> Iterator[Piece]:
    last = Block(kind="text", text=path[-1][1])
    yield from _pack(_joined(path[:-1]), [last], count, most)


def _joined(path: list[tuple[int, str]]) -> str:
    texts = [text for _, text in path]
    unrepeated = [text for at, text in enumerate(texts) if at == 0 or text != texts[at - 1]]
    return _SEPARATOR.join(unrepeated)[-_HEADING_LETTERS:]


def _pack(heading: str, blocks: list[Block], count: Count, most: int) -> Iterator[Piece]:
    """Put pieces together while they fit. Of the bound, the heading takes at most a half."""
    head = count(heading) if heading else 0
    if head > most // 2:
        heading = next(_bits(heading, count, most // 2))
        head = count(heading)
    room = most - head
    parts: list[str] = []
    page: int | None = None
    for piece, at in _pieces(blocks, count, room):
        if parts and count("\n".join([*parts, piece])) > room:
            yield _passage(heading, parts, count, page)
            parts = []
        page = page if parts else at
        parts.append(piece)
    if parts:
        yield _passage(heading, parts, count, page)


def _passage(heading: str, parts: list[str], count: Count, page: int | None) -> Piece:
    text = "\n".join(parts)
    tokens = count(embedded_text(heading, text))
    return Piece(heading=heading, text=text, tokens=tokens, page=page)


def _pieces(blocks: list[Block], count: Count, room: int) -> Iterator[tuple[str, int | None]]:
    for block in blocks:
        if count(block.text) <= room:
            yield block.text, block.page
        else:
            yield from ((piece, block.page) for piece in _windows(block.text, count, room))


def _windows(text: str, count: Count, room: int) -> Iterator[str]:
    """A paragraph that is too long, in runs of sentences; each begins with the last of the run
    before, where that is short enough."""
    run: list[str] = []
    for sentence in sentences(text):
        for bit in _bits(sentence, count, room):
            if run and count("".join([*run, bit])) > room:
                yield "".join(run).strip()
                again = run[-1]
                fits = count(again) <= room // _OVERLAP and count(again + bit) <= room
                run = [again] if fits else []
            run.append(bit)
    if "".join(run).strip():
        yield "".join(run).strip()


def _bits(text: str, count: Count, room: int) -> Iterator[str]:
    """A sentence; one that is too long by itself in parts, between words where there are any."""
    at = 0
    while at < len(text):
        bit = text[at : at + room * _LETTERS]
        if (tokens := count(bit)) > room:
            bit = bit[: max(1, len(bit) * room // tokens)]
        while len(bit) > 1 and count(bit) > room:
            bit = bit[: max(1, len(bit) * 9 // 10)]
        if at + len(bit) < len(text) and (space := bit.rfind(" ", len(bit) // 2)) > 0:
            bit = bit[: space + 1]
        yield bit
        at += len(bit)


def sentences(text: str) -> list[str]:
    """The sentences of a text in Latin or Chinese punctuation; together they are the text."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    bounds = [0, *ends, len(text)]
    found = [text[start:end] for start, end in pairwise(bounds)]
    return [sentence for sentence in found if sentence]
