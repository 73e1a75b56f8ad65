"""Markdown: CommonMark with tables. Front matter at its head is passed over, but for its title."""

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from ollama_ft.kinds.readers.block import Block, decoded, read_bytes, tidy

_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?\r?\n)(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_LINE_END = "\x1e"  # one that the writer has meant
_BREAK = re.compile(r"<br\b", re.IGNORECASE)
_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE)


def read(path: Path) -> Iterator[Block]:
    """Headings, paragraphs, items, rows and code. Raises BadInput for what is no text."""
    text = decoded(read_bytes(path))
    if front := _FRONT.match(text):
        text = text[front.end() :]
        if title := _TITLE.search(front[1]):
            yield Block(kind="heading", text=title[1].strip("'\""), level=1)
    yield from _blocks(MarkdownIt("commonmark").enable("table").parse(text))


def _blocks(tokens: list[Token]) -> Iterator[Block]:
    level = 0
    row: list[str] | None = None
    for token in tokens:
        if token.type == "heading_open":
            level = int(token.tag[1:])
        elif token.type == "tr_open":
            row = []
        elif token.type == "inline" and row is not None:
            row.append(" ".join(_plain(token).split("\n")))
        elif token.type == "inline":
            kind = "heading" if level else "text"
            yield from _block(kind, _plain(token), level)
            level = 0
        elif token.type == "tr_close" and row is not None:
            yield from _block("text", " | ".join(row), 0)
            row = None
        else:
            yield from _other(token)


def _other(token: Token) -> Iterator[Block]:
    if token.type == "hr":
        yield Block(kind="break")
    elif token.type in ("fence", "code_block"):
        yield from _block("text", token.content.strip("\n"), 0)
    elif token.type == "html_block":
        from ollama_ft.kinds.readers.html import blocks

        yield from blocks(token.content)


def _block(kind: str, text: str, level: int) -> Iterator[Block]:
    if text.strip():
        yield Block(kind=kind, text=text, level=level)


def _plain(token: Token) -> str:
    # Of a link its text, of a picture its description.
    parts = []
    for child in token.children or ():
        if child.type in ("text", "code_inline", "image"):
            parts.append(child.content)
        elif child.type == "softbreak":
            parts.append("\n")
        elif child.type == "hardbreak" or _BREAK.match(child.content):
            parts.append(_LINE_END)
    return "\n".join(map(tidy, "".join(parts).split(_LINE_END)))
