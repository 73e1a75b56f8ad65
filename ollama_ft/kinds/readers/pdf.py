"""PDF, page by page. Its lines are put together again to paragraphs, as far as their ends tell."""

import re
from collections.abc import Iterator
from pathlib import Path

import pypdfium2 as pdfium

from ollama_ft.core.errors import BadInput
from ollama_ft.core.words import is_unspaced
from ollama_ft.kinds.readers.block import MOST_BYTES, Block, tidy

MOST_PAGES = 5_000
_SHORT = 0.75  # a line of less than this share of the longest ends a paragraph
_STOPS = re.compile(r"[.!?:。！？：；…][\"'”’」』）)]*$")


def read(path: Path) -> Iterator[Block]:
    """The paragraphs, with their pages; bookmarks become headings where they point.

    Raises BadInput for a PDF that is damaged, locked, too large, or made of pictures alone.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise BadInput(f"It has {size / 1e6:,.0f} MB; {MOST_BYTES / 1e6:.0f} MB are read at most.")
    try:
        with pdfium.PdfDocument(path) as document:
            yield from _pages(document)
    except pdfium.PdfiumError as error:
        locked = "password" in str(error).lower()
        reason = "is locked with a password" if locked else f"is a damaged PDF ({error})"
        raise BadInput(f"It {reason}.") from error


def _pages(document: pdfium.PdfDocument) -> Iterator[Block]:
    if len(document) > MOST_PAGES:
        raise BadInput(f"It has {len(document):,} pages; {MOST_PAGES:,} are read at most.")
    marks = _bookmarks(document)
    is_empty = True
    for number in range(len(document)):
        for level, title in marks.get(number, ()):
            yield Block(kind="heading", text=title, level=level, page=number + 1)
        page = document[number]
        for paragraph in joined(page.get_textpage().get_text_bounded()):
            is_empty = False
            yield Block(kind="text", text=paragraph, page=number + 1)
        page.close()
    if is_empty:
        raise BadInput("Its pages hold no text, only pictures.", mend="run OCR over it first")


def joined(text: str) -> list[str]:
    """The paragraphs of a page. A line goes on in the next one unless it is short and has ended.

    Words that a hyphen divides at a line's end are put together.
    """
    lines = [tidy(line) for line in text.replace("\ufffe", "-").splitlines()]
    longest = max(map(len, lines), default=0)
    found, current = [], ""
    for line in lines:
        current = _append(current, line)
        if current and (not line or (_STOPS.search(line) and len(line) < _SHORT * longest)):
            found.append(current)
            current = ""
    return [*found, current] if current else found


def _append(current: str, line: str) -> str:
    if not current or not line:
        return current or line
    if current[-1] == "-" and current[-2:-1].isalpha() and line[0].islower():
        return current[:-1] + line
    return current + line if is_unspaced(current[-1] + line[0]) else f"{current} {line}"


def _bookmarks(document: pdfium.PdfDocument) -> dict[int, list[tuple[int, str]]]:
    """Titles with their levels, by the page that they point to, counted from 0."""
    found: dict[int, list[tuple[int, str]]] = {}
    for count, mark in enumerate(document.get_toc(max_depth=6)):
        where = mark.get_dest()
        page = where.get_index() if where is not None else None
        if count > MOST_PAGES:
            break
        if page is not None and tidy(mark.get_title()):
            found.setdefault(page, []).append((mark.level + 1, tidy(mark.get_title())[:200]))
    return found
